"""Figures of spikes: what is drawn is what was given."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch

from sj_lowlat import plots
from sj_lowlat.errors import InputError

SPIKES = torch.tensor([[1.0, 0.0, -1.0], [0.0, 3.0, 0.0], [1.0, 0.0, -2.0]])  # [T, S]
POTENTIALS = torch.tensor([[0.5, 0.25, 0.0], [1.5, -0.5, 0.25], [0.75, 0.5, 1.0]])


def written(figure: Any) -> bool:
    buffer = io.BytesIO()
    figure.savefig(buffer)
    return buffer.getvalue().startswith(b"\x89PNG")


def test_activity_is_a_map_of_layers_and_steps_with_numbers() -> None:
    figure = plots.plot_activity({"a": [0.0, 0.5, 1.0], "b": [0.25, 2.0, 0.0]}, title="T")
    axes = figure.axes[0]
    assert axes.images[0].get_array().tolist() == [[0.0, 0.5, 1.0], [0.25, 2.0, 0.0]]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "3"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in axes.texts] == ["0.00", "0.50", "1.00", "0.25", "2.00", "0.00"]
    assert axes.get_title(loc="left") == "T" and axes.images[0].norm.vmin == 0 and written(figure)


def test_activity_of_many_steps_keeps_its_labels_apart_and_of_silence_can_be_drawn() -> None:
    axes = plots.plot_activity({"a": [1.0] * 100}).axes[0]
    assert len(axes.get_xticks()) <= 13 and not axes.texts
    assert [tick.get_text() for tick in axes.get_xticklabels()][:2] == ["1", "9"]
    assert written(plots.plot_activity({"a": [0.0, 0.0]}))


@pytest.mark.parametrize("rates", [{}, {"a": []}, {"a": [1.0], "b": [1.0, 2.0]}])
def test_activity_refuses_what_is_no_map(rates: dict[str, list[float]]) -> None:
    with pytest.raises(InputError, match="as many steps"):
        plots.plot_activity(rates)


def test_neurons_show_every_spike_its_sign_and_its_burst() -> None:
    figure = plots.plot_neurons(SPIKES, POTENTIALS)
    raster, traces = figure.axes
    drawn = {c.get_label(): {tuple(p) for p in c.get_offsets().tolist()} for c in raster.collections}
    assert drawn == {"spike": {(1, 1), (2, 2), (3, 1)}, "negative spike": {(1, 3), (3, 3)}}
    assert [(text.get_text(), text.xy) for text in raster.texts] == [("3", (2, 2)), ("2", (3, 3))]
    lines = {line.get_label(): list(line.get_ydata()) for line in traces.lines}
    assert [lines[f"neuron {n}"] for n in (1, 2, 3)] == POTENTIALS.T.tolist()
    assert written(figure)


def test_no_more_traces_than_can_be_told_apart_and_no_spike_at_all() -> None:
    figure = plots.plot_neurons(torch.zeros(2, 9), torch.ones(2, 9))
    assert len([line for line in figure.axes[1].lines if line.get_label().startswith("neuron")]) == 4
    assert written(figure)


@pytest.mark.parametrize("shapes", [((3, 2), (2, 3)), ((3,), (3,)), ((3, 0), (3, 0))])
def test_neurons_refuse_other_shapes(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(InputError, match=r"both as \[T, S\]"):
        plots.plot_neurons(*map(torch.zeros, shapes))


@pytest.mark.parametrize("signed", [False, True])
def test_maps_stand_in_rows_of_steps_on_one_scale(signed: bool) -> None:
    maps = torch.arange(2 * 3 * 2 * 2.0).view(2, 3, 2, 2) - (5.0 if signed else 0.0)
    figure = plots.plot_count_maps(maps, (1, 6), (4, 0, 7), title="layer")
    axes = [a for a in figure.axes if a.images]
    assert [a.images[0].get_array().tolist() for a in axes] == maps.flatten(0, 1).tolist()
    most = float(maps.abs().max())
    assert {(a.images[0].norm.vmin, a.images[0].norm.vmax) for a in axes} == {(-most if signed else 0, most)}
    assert [a.get_title() for a in axes[:3]] == ["channel 4", "channel 0", "channel 7"]
    assert [axes[0].get_ylabel(), axes[3].get_ylabel()] == ["step 1", "step 6"]
    assert written(figure)


def test_maps_refuse_other_numbers() -> None:
    with pytest.raises(InputError, match=r"maps \[steps, channels, h, w\]"):
        plots.plot_count_maps(torch.zeros(2, 3, 4, 4), (1,), (0, 1, 2))
