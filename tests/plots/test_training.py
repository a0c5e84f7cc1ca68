"""The curve of a training."""

from __future__ import annotations

import pytest

from sj_lowlat.errors import InputError
from sj_lowlat.plots import plot_training

LOSS = [(10, 9.0), (20, 3.0), (30, 1.5)]


def test_loss_alone() -> None:
    (axes,) = plot_training(LOSS, title="of a").axes
    (line,) = axes.lines
    assert list(zip(*line.get_data(), strict=True)) == LOSS and axes.get_title(loc="left") == "of a"
    assert axes.get_yscale() == "linear" and axes.get_ylabel() == "loss"


def test_scores_have_an_axis_of_their_own() -> None:
    scores = [(20, 12.5), (30, 20.0)]
    left, right = plot_training([*LOSS, (40, 0.9)], scores).axes
    assert list(zip(*right.lines[0].get_data(), strict=True)) == scores and len(left.lines) == 1
    assert left.get_yscale() == "log" and left.get_ylabel() == "loss (log scale)"
    assert right.get_yscale() == "linear" and right.get_ylim()[0] == 0
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["loss", "mAP50"]
    assert left.lines[0].get_color() != right.lines[0].get_color()


def test_one_point_zero_and_nothing() -> None:
    (axes,) = plot_training([(1, 0.0)]).axes
    assert axes.lines[0].get_marker() == "o" and axes.get_yscale() == "linear"
    with pytest.raises(InputError, match="plot_training got no loss"):
        plot_training([])
