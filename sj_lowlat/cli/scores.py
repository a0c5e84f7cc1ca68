"""What ``sj-lowlat evaluate`` tells of single classes: a table, and curves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sj_lowlat.evaluation import Evaluation

_CLASSES = 4  # beside the mean of all


@dataclass(frozen=True)
class ClassOptions:
    """Classes and curves.

    :param per_class: print a table of all classes: objects, AP50, AP, precision, recall and F1
    :param min_score: score above which detections count for precision, recall and F1, as for detect; AP is of
        all detections
    :param plots: folder for PNGs: mAP against steps, precision against recall, F1 against the score
    """

    per_class: bool = False
    min_score: float = 0.25
    plots: str | None = None

    def check(self) -> None:
        """Refuse what cannot be, before the run.

        :raises InputError: naming the value
        """
        from sj_lowlat.errors import InputError

        if not 0 <= self.min_score <= 1:
            raise InputError(f"min_score is {self.min_score}; give a score in [0, 1]")
        if self.plots is not None and Path(self.plots).is_file():
            raise InputError(f"plots is {self.plots}, a file: give a folder")

    def tell(self, result: Evaluation) -> None:
        """Print the table."""
        if not self.per_class or result.classes is None:
            return
        found = result.classes
        print(f"classes of {result.points[-1].name}, in %, of scores above {found.min_score:g} but for AP")
        print(found)
        if found.best_score is not None:
            best = f"{100 * found.best_f1:.1f} % at --min-score {found.best_score:.3g}"
            print(f"the greatest F1 of all: {best}")

    def draw(self, result: Evaluation, what: str) -> None:
        """Write the PNGs.

        :param what: network and data, for the titles
        """
        if self.plots is None:
            return
        from sj_lowlat.files import atomic_write

        folder, made = Path(self.plots), figures(result, what)
        for name, figure in made.items():
            with atomic_write(folder / name) as temporary:
                figure.savefig(temporary, dpi=120)
        one = len(result.points) == 1 and result.points[0].steps is not None
        missing = " (a curve against steps needs several, as in --readout 2,4,8)" if one else ""
        print(f"{', '.join(made)} are in {folder}{missing}")


def figures(result: Evaluation, what: str) -> dict[str, Figure]:
    """Pictures of an evaluation, by file name.

    :param what: network and data, for the titles
    """
    from textwrap import fill

    import numpy as np

    from sj_lowlat.errors import printable
    from sj_lowlat.evaluation.per_class import counts_above, precision_curves
    from sj_lowlat.plots import plot_against_score, plot_map_curve, plot_precision_recall

    title, made = fill(printable(what), 80, break_on_hyphens=False), {}
    if len(result.points) > 1:
        curve = [(steps, 100 * value) for steps, value in result.curve()]
        ann = None if result.ann is None else 100 * result.ann.map50
        figure = made["map_against_steps.png"] = plot_map_curve({"SNN": curve}, ann)
        figure.axes[0].set_title(title, loc="left", fontsize="medium")
    classes, matches = result.classes, result.matches
    if classes is None or matches is None:
        return made
    last = f"{title}\n{result.points[-1].name}, IoU 0.5"

    recalls, rows = np.linspace(0, 100, 101).tolist(), 100 * precision_curves(matches)
    often = sorted(range(len(rows)), key=lambda row: -classes.classes[row].objects)[:_CLASSES]
    named = {
        f"{printable(classes.classes[r].name)}, {100 * classes.classes[r].ap50:.1f}": rows[r] for r in often
    }
    if len(rows) > 1:
        named = {
            f"mean of {len(rows)} classes, mAP50 {100 * classes.whole.ap50:.1f}": rows.mean(axis=0),
            **named,
        }
    made["precision_recall.png"] = plot_precision_recall(
        {label: list(zip(recalls, row.tolist(), strict=True)) for label, row in named.items()}, last
    )

    limits = np.linspace(0, 1, 401)
    kept, hits = (counts.sum(axis=0) for counts in counts_above(matches, limits))
    objects, some = classes.whole.objects, kept > 0
    shares = {
        "F1": (limits, 2 * hits / (kept + objects)),
        "precision": (limits[some], hits[some] / kept[some]),
        "recall": (limits, hits / objects),
    }
    marks = {f"--min-score {classes.min_score:g}, F1 {100 * classes.whole.f1:.1f}": classes.min_score}
    if classes.best_score is not None:
        marks = {
            f"greatest F1, {100 * classes.best_f1:.1f} at {classes.best_score:.3g}": classes.best_score,
            **marks,
        }
    made["f1_against_score.png"] = plot_against_score(
        {
            label: list(zip(x.tolist(), (100 * y).tolist(), strict=True))
            for label, (x, y) in shares.items()
            if len(x)
        },
        marks,
        last,
    )
    return made
