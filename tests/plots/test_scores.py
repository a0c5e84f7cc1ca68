"""What the curves show, and that no more than five are drawn."""

from __future__ import annotations

from typing import Any

import pytest

from sj_lowlat.errors import InputError
from sj_lowlat.plots import plot_against_score, plot_precision_recall
from sj_lowlat.plots.style import PALETTE

POINTS = [(0.0, 90.0), (0.5, 60.0), (1.0, 0.0)]


@pytest.mark.parametrize("plot", [plot_precision_recall, plot_against_score])
def test_lines_are_the_points(plot: Any) -> None:
    curves = {"all": POINTS, "cat": [(0.25, 1.0)], "dog": POINTS[:2]}
    figure = plot(curves, title="of pets")
    (axes,) = figure.axes
    drawn = {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.lines}
    assert drawn == curves and axes.get_title(loc="left") == "of pets"
    assert [line.get_color() for line in axes.lines] == list(PALETTE[:3])
    widths = [line.get_linewidth() for line in axes.lines]
    assert widths[0] > widths[1] == widths[2]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(curves)
    figure.draw_without_rendering()  # lays it out
    legend, frame = axes.get_legend().get_window_extent(), figure.bbox
    assert legend.x1 <= frame.x1 + 1 and axes.get_window_extent().width > frame.width / 3


def test_marks_are_upright_lines() -> None:
    (axes,) = plot_against_score({"F1": POINTS}, {"best": 0.4, "usual": 0.25}).axes
    marks = {line.get_label(): list(line.get_xdata()) for line in axes.lines[1:]}
    assert marks == {"best": [0.4, 0.4], "usual": [0.25, 0.25]}
    assert len({line.get_linestyle() for line in axes.lines}) == 3


@pytest.mark.parametrize("plot", [plot_precision_recall, plot_against_score])
@pytest.mark.parametrize("curves", [{}, {"a": []}, {str(i): POINTS for i in range(6)}])
def test_nothing_to_draw_or_too_much(plot: Any, curves: Any) -> None:
    with pytest.raises(InputError, match=rf"{plot.__name__} got {len(curves)} curves; give 1 to 5"):
        plot(curves)
