"""Reports: what a spiking detector did for some pictures, as one HTML file that needs nothing else."""

from sj_lowlat.report.page import MOST_PICTURES, write_report
from sj_lowlat.report.picture import PictureRun, Reading, shown_steps, watch_picture
from sj_lowlat.report.recorded import RecordedRun, RecordedScores, recorded_run, recorded_scores
from sj_lowlat.report.rows import Row, layer_rows

__all__ = [
    "MOST_PICTURES",
    "PictureRun",
    "Reading",
    "RecordedRun",
    "RecordedScores",
    "Row",
    "layer_rows",
    "recorded_run",
    "recorded_scores",
    "shown_steps",
    "watch_picture",
    "write_report",
]
