"""Reports: what a spiking detector did for some pictures, as one HTML file that needs nothing else."""

from sj_lowlat.report.page import MOST_PICTURES, write_report
from sj_lowlat.report.picture import PictureRun, Reading, shown_steps, watch_picture
from sj_lowlat.report.recorded import recorded_curve, recorded_run

__all__ = [
    "MOST_PICTURES",
    "PictureRun",
    "Reading",
    "recorded_curve",
    "recorded_run",
    "shown_steps",
    "watch_picture",
    "write_report",
]
