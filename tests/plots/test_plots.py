from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import pytest
import torch

from sj_lowlat import functional, plots
from sj_lowlat.errors import InputError
from sj_lowlat.layers import ImbalancedIFNode, ResidualFixIFNode
from sj_lowlat.plots.style import GREY


def lines(figure: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in figure.axes[0].lines}


def is_png(figure: Any) -> bool:
    buffer = io.BytesIO()
    figure.savefig(buffer)
    return buffer.getvalue().startswith(b"\x89PNG")


def test_map_curve_draws_each_curve_in_order_of_time_and_both_levels() -> None:
    figure = plots.plot_map_curve(
        {"residual fix": [(16, 6.8), (8, 2.2), (32, 14.1)], "signed": [(8, 19.3)]},
        ann=23.0,
        quant=21.2,
        title="T",
    )
    drawn = lines(figure)
    assert list(drawn["residual fix"].get_xdata()) == [8, 16, 32]
    assert list(drawn["residual fix"].get_ydata()) == [2.2, 6.8, 14.1]
    assert list(drawn["signed"].get_ydata()) == [19.3]
    assert set(drawn["ANN (23.0)"].get_ydata()) == {23.0} and set(drawn["Quant ANN (21.2)"].get_ydata()) == {
        21.2
    }
    axes = figure.axes[0]
    assert axes.get_title(loc="left") == "T" and axes.get_ylim()[0] == 0
    assert [label.get_text() for label in axes.get_xticklabels()] == ["8", "16", "32"]
    assert is_png(figure)


def test_context_stands_behind_in_grey_without_a_name() -> None:
    axes = plots.plot_map_curve({"a": [(2, 5.0)]}, context={"b": [(64, 9.0), (1, 3.0)]}).axes[0]
    named, behind = axes.lines
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a"]
    assert behind.get_xdata().tolist() == [1, 64] and behind.get_color() == GREY
    assert behind.get_zorder() < named.get_zorder() and axes.get_xticks()[-1] == 64


def test_map_curve_of_one_point_and_of_zeros_can_be_drawn() -> None:
    assert is_png(plots.plot_map_curve({"plain IF": [(1, 0.0)]}))


def test_map_curve_labels_keep_their_distance() -> None:
    figure = plots.plot_map_curve({"x": [(t, 1.0) for t in range(1, 301)]})
    ticks = figure.axes[0].get_xticks()
    assert 5 <= len(ticks) <= 20 and all(b / a >= 1.12 for a, b in zip(ticks, ticks[1:], strict=False))


@pytest.mark.parametrize("curves", [{}, {"a": []}, {"a": [(0, 1.0)]}])
def test_map_curve_refuses_what_cannot_be_drawn(curves: dict[str, list[tuple[int, float]]]) -> None:
    with pytest.raises(InputError, match="steps"):
        plots.plot_map_curve(curves)


def test_panels_share_axes_and_a_legend() -> None:
    panels = {
        "day": {("ANN", "a"): [(8, 50.0), (4, 20.0)], ("SNN", "a"): [(4, 1.0), (8, 2.0)]},
        "night": {("ANN", "b"): [(4, 90.0)]},
    }
    figure = plots.plot_map_panels(panels, title="T", columns=1, xlabel="frames")
    day, night = figure.axes
    assert [axes.get_title(loc="left") for axes in (day, night)] == ["day", "night"]
    assert day.get_ylim() == night.get_ylim() and day.get_ylim()[0] == 0 and day.get_ylim()[1] > 90
    drawn = lines(figure)
    assert list(drawn["ANN, a"].get_ydata()) == [20.0, 50.0]
    (other,) = night.lines
    assert other.get_color() == drawn["ANN, a"].get_color() != drawn["SNN, a"].get_color()
    assert other.get_linestyle() != drawn["ANN, a"].get_linestyle()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["ANN, a", "SNN, a", "ANN, b"]
    assert is_png(figure)
    with pytest.raises(InputError, match="steps"):
        plots.plot_map_panels({"day": {}})
    hidden = plots.plot_map_panels({str(n): {("ANN", "a"): [(4, n)]} for n in range(3)}, columns=2)
    assert [axes.get_visible() for axes in hidden.axes] == [True, True, True, False]


def test_a_long_legend_leaves_the_axes_their_width() -> None:
    widths = []
    for label in ("x", "a label as long as they come in tables of several networks"):
        figure = plots.plot_map_curve({label: [(4, 1.0), (8, 2.0)]})
        figure.draw_without_rendering()
        widths.append(figure.axes[0].get_window_extent().width)
    assert widths[1] == pytest.approx(widths[0], rel=0.02)


def test_rates_stand_side_by_side_and_missing_layers_leave_a_gap() -> None:
    figure = plots.plot_rates({"IF": {"a": 0.1, "b": 0.2}, "signed": {"b": 0.3}}, title="rates")
    axes = figure.axes[0]
    assert [bar.get_height() for bar in axes.patches] == [0.1, 0.2, 0.3]
    centres = [bar.get_x() + bar.get_width() / 2 for bar in axes.patches]
    assert centres == pytest.approx([-0.2, 0.8, 1.2])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b"]
    assert is_png(figure)
    with pytest.raises(InputError, match="no rates"):
        plots.plot_rates({"IF": {}})


def test_stacked_bars_stand_on_each_other_in_given_axes() -> None:
    axes = plots.plot_rates({"other": {"z": 1.0}}).axes[0]
    axes.clear()
    figure = plots.plot_rates({"under": {"a": 1.0, "b": 2.0}, "over": {"b": 3.0}}, stacked=True, ax=axes)
    assert figure is axes.figure
    assert [(bar.get_y(), bar.get_height()) for bar in axes.patches] == [(0, 1), (0, 2), (2, 3)]
    assert [bar.get_x() + bar.get_width() / 2 for bar in axes.patches] == pytest.approx([0, 1, 1])


@pytest.mark.parametrize(("ratio", "steps"), [(0.0, 5), (0.5, 8)])
def test_neuron_response_is_the_closed_form_and_restores_the_node(ratio: float, steps: int) -> None:
    node = ResidualFixIFNode(v_threshold=2.0, ratio=ratio, step_mode="m")
    inputs = torch.arange(-8, 24) / 16  # exact in float32
    response = plots.neuron_response(node, inputs, steps)
    expected = functional.constant_input_count(inputs, steps, v0=ratio) / steps
    assert [z for z, _ in response] == inputs.tolist()
    assert [rate for _, rate in response] == pytest.approx(expected.tolist())
    assert (node.step_mode, node.steps) == ("m", 0)


def test_neuron_response_of_a_leaky_neuron_goes_below_zero() -> None:
    response = dict(plots.neuron_response(ImbalancedIFNode(slope=0.5), torch.tensor([-1.0, 0.5]), 16))
    assert response == pytest.approx({-1.0: -0.5, 0.5: 0.5}, abs=1 / 16)


def test_neuron_response_plot() -> None:
    figure = plots.plot_neuron_response({"V(0) = 0": [(1.2, 1.0), (-0.2, 0.0), (0.5, 0.4)]}, title="T = 5")
    drawn = lines(figure)
    assert list(drawn["V(0) = 0"].get_xdata()) == [-0.2, 0.5, 1.2]
    assert list(drawn["ReLU, clipped"].get_xdata()) == [-0.2, 0.0, 1.0, 1.2]
    assert list(drawn["ReLU, clipped"].get_ydata()) == [0.0, 0.0, 1.0, 1.0]
    assert is_png(figure)


def test_neuron_response_refuses_bad_input() -> None:
    with pytest.raises(InputError, match="time_steps=0"):
        plots.neuron_response(ResidualFixIFNode(), torch.zeros(3), 0)
    with pytest.raises(InputError, match="1-d"):
        plots.neuron_response(ResidualFixIFNode(), torch.zeros(3, 1), 4)
    with pytest.raises(InputError, match="per channel"):
        plots.neuron_response(ResidualFixIFNode(v_threshold=torch.ones(2)), torch.zeros(3), 4)
    with pytest.raises(InputError, match="nothing to draw"):
        plots.plot_neuron_response({"a": []})


def test_images_are_shown_as_they_are() -> None:
    images = [torch.randint(0, 256, (3, 5 + i, 7), dtype=torch.uint8) for i in range(5)]
    figure = plots.plot_images(images, [f"image {i}" for i in range(5)], columns=2)
    assert len(figure.axes) == 5
    for axes, image in zip(figure.axes, images, strict=True):
        assert (torch.from_numpy(axes.images[0].get_array().copy()) == image.permute(1, 2, 0)).all()
    assert [axes.get_title() for axes in figure.axes] == [f"image {i}" for i in range(5)]
    assert figure.axes[4].get_gridspec().get_geometry() == (3, 2)
    assert is_png(figure)
    assert plots.plot_images(images).axes[0].get_gridspec().get_geometry() == (2, 3)


def test_images_refuse_bad_input() -> None:
    good = torch.zeros(3, 4, 4, dtype=torch.uint8)
    with pytest.raises(InputError, match="no image"):
        plots.plot_images([])
    with pytest.raises(InputError, match="image 1 is torch.float32"):
        plots.plot_images([good, torch.zeros(3, 4, 4)])
    with pytest.raises(InputError, match="image 0"):
        plots.plot_images([good[:1]])
    with pytest.raises(InputError, match="1 titles"):
        plots.plot_images([good, good], ["a"])


def test_import_is_light_and_figures_leave_pyplot_alone() -> None:
    code = (
        "import sys; from sj_lowlat import plots\n"
        "assert 'matplotlib' not in sys.modules\n"
        "plots.plot_rates({'a': {'b': 1.0}})\n"
        "from matplotlib import _pylab_helpers as state\n"
        "assert not state.Gcf.figs, state.Gcf.figs"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
