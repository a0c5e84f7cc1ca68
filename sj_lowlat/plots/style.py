"""What the figures share: colours, sizes, quiet axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

#: Okabe & Ito's palette, told apart by colour-blind readers too (yellow left out: too pale on white)
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#666666"


def new_figure(width: float = 7.0, height: float = 4.2) -> Figure:
    """A figure, in inches, that notebooks show. It belongs to no pyplot state: nothing has to be closed."""
    from sj_lowlat.plots.figure import ShownFigure

    return ShownFigure(figsize=(width, height), dpi=120, layout="constrained")


def quiet(axes: Axes, grid: str = "y") -> None:
    """Take the upper and right frame away and put a light grid (x, y or both) behind the data, in place."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color="#dddddd", linewidth=0.8)  # type: ignore[arg-type]


def widen(figure: Figure, legend: Legend) -> None:
    """Make room for a legend beside the axes, which would be squeezed instead, in place."""
    figure.set_figwidth(figure.get_figwidth() + legend.get_window_extent().width / figure.dpi)
