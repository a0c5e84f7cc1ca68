"""What is left in the membranes: where a conversion loses accuracy."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import floor
from typing import Any

import torch
from torch import Tensor, nn

from sj_lowlat import functional
from sj_lowlat.errors import InputError
from sj_lowlat.layers import ImbalancedIFNode, LowLatencyIFNode, PointwiseIFNode, SignedIFNode
from sj_lowlat.monitors.presentation import LayerRecord, Presentation, PresentationMonitor, Sums, per_channel
from sj_lowlat.plots import plot_rates
from sj_lowlat.record import table


@dataclass(frozen=True)
class LayerRemainder(LayerRecord):
    """Remainders of one layer at the end of its presentations.

    :param over_fired: fraction of neurons that fired more often than their Quant-ReLU wants
    :param under_fired: fraction that fired less often
    :param exact: fraction that fired just as often
    :param clipped: fraction whose count stands at a limit of the Quant-ReLU while the potential points
        past it
    :param mean_re: mean Re = V(T) / T in thresholds, over neurons that are not clipped
    :param mean_abs_re: mean \\|Re\\|, over the same
    :param mean_re_per_channel: ``mean_re`` of each channel (dim 1), ``[C]``; 0 where all neurons are clipped
    """

    over_fired: float
    under_fired: float
    exact: float
    clipped: float
    mean_re: float
    mean_abs_re: float
    mean_re_per_channel: list[float]


@dataclass
class _Membranes:
    """References to the node's own state, and counts where the node keeps none."""

    node: LowLatencyIFNode
    v: Tensor | None = None  # [N, *]
    max_count: int | None = None  # of the node's rule, which a simulation changes for its duration
    burst: int = 1  # likewise
    count: Tensor | None = None  # [N, *] positive less negative spikes
    negative: Tensor | None = None  # [N, *] negative spikes, of imbalanced neurons


@dataclass
class _RemainderSums(Sums):
    over: int
    under: int
    free: Tensor  # [C] neurons that are not clipped
    re: Tensor  # [C] their Re
    abs_re: Tensor  # [C]


class RemainderMonitor(PresentationMonitor[_Membranes, _RemainderSums, LayerRemainder]):
    r"""The paper's remainder :math:`Re = V(T)/T` (section 4.2), and what it says about each neuron.

    After T steps a neuron with N spikes has :math:`N - N_{wanted} = -\lfloor V(T)/V_{th} \rfloor` as long
    as no count is clipped: V(T) < 0 means over-fired, V(T) >= V_th under-fired, anything between exact. A
    neuron with N = 0 and V < 0, or with N at the highest count and V >= V_th, does what a Quant-ReLU does
    when it clips: it is exact and ``clipped``, and left out of the means of Re. The highest count is the
    node's ``max_count``, else the one given here or the number of steps, times the node's ``burst``.
    Neurons with a slope are compared with the leaky ReLU that they replace.

    N is the node's own ``count`` where it has one; for the others the monitor counts.

    :param instance: the class (or classes) of neurons to watch, :class:`LowLatencyIFNode` or below
    :param max_count: highest count of neurons that hold no limit themselves; needed for runs with a flush:
        the levels of the quantised network
    :raises InputError: if ``net`` has no such neuron; or while it runs, if a neuron without ``count`` is met
        in the middle of a presentation, one with hard reset, whose V does not tell what it has lost,
        or a run with pre-steps, which change V(0); or for max_count < 1
    """

    def __init__(
        self,
        net: nn.Module,
        instance: type | tuple[type, ...] = LowLatencyIFNode,
        max_count: int | None = None,
    ) -> None:
        super().__init__(net, instance)
        if max_count is not None and max_count < 1:
            raise InputError(f"max_count is {max_count}; give the steps with input, at least 1, or None.")
        self.max_count = max_count

    def _begin(self, name: str, node: LowLatencyIFNode, like: Tensor, first_step: int) -> _Membranes:
        state = _Membranes(node)
        if node.clock.now.pre:
            raise InputError(f"layer {name!r} corrects V(0): V does not tell how often it should have fired")
        if node.rule.hard_reset:
            raise InputError(
                f"layer {name!r} has a hard reset: its V does not tell how often it should have fired"
            )
        if not hasattr(node, "count"):
            if first_step:
                raise InputError(f"{first_step} steps of layer {name!r} were not watched: reset the network")
            state.count = torch.zeros_like(like, dtype=torch.int32)
            if isinstance(node, ImbalancedIFNode):
                state.negative = torch.zeros_like(state.count)
        return state

    def _watch(self, name: str, state: _Membranes, node: LowLatencyIFNode, spikes: Tensor) -> None:
        rule = node.rule
        state.v, state.max_count, state.burst = node.v.detach(), rule.highest, rule.up
        if hasattr(node, "count"):
            state.count = node.count.detach()
            return
        assert state.count is not None
        state.count += spikes.sum(0, dtype=torch.int32)
        if state.negative is not None:
            state.negative += (spikes < 0).sum(0)

    def _fold(self, presentation: Presentation[_Membranes]) -> _RemainderSums:
        state = presentation.state
        assert state.v is not None and state.count is not None
        node, steps, threshold = state.node, presentation.last_step, state.node.threshold
        if threshold.dim():  # per channel
            threshold = threshold.view(-1, *[1] * (state.v.dim() - 2))
        v = state.v.double() / threshold.double()  # [N, C, *], in thresholds
        limit = state.max_count or (self.max_count or steps) * state.burst
        lowest = 0
        count = state.count.double()
        wanted = count + v.floor()  # oracle: N - wanted = -floor(V / V_th)
        if isinstance(node, PointwiseIFNode):  # V is the whole charge
            with torch.no_grad():
                target = node.target(v.to(state.v), limit).double()
                wanted = node.level(v.to(state.v), limit).double()
            v, lowest = target - count, -limit
        elif isinstance(node, ImbalancedIFNode):
            assert state.negative is not None
            # a negative spike gave back 1/slope thresholds: rebuild the sum of the inputs, then quantise it
            total = v + count + state.negative * (1 - 1 / node.slope)
            wanted = torch.where(total < 0, -(-total * node.slope).floor(), total.floor())
            lowest = -limit
        elif isinstance(node, SignedIFNode) and node.slope:
            lowest = -limit
            if node.slope < 1:  # 1: the identity, whose levels are alike on both sides
                total = v + functional.leaky_charge(count, 1.0, node.slope)
                wanted = torch.where(total < 0, (total * node.slope + 0.5).floor(), total.floor())
        clipped = ((count == lowest) & (wanted < lowest)) | ((count == limit) & (wanted > limit))
        wanted = wanted.clamp(lowest, limit)
        re = functional.remainder(v, steps).masked_fill(clipped, 0.0)
        return _RemainderSums(
            images=presentation.images,
            neurons=v.numel(),
            neuron_steps=v.numel() * steps,
            over=int((count > wanted).sum()),
            under=int((count < wanted).sum()),
            free=per_channel(~clipped).cpu(),
            re=per_channel(re).cpu(),
            abs_re=per_channel(re.abs()).cpu(),
        )

    def _record_of(self, name: str, sums: _RemainderSums) -> LayerRemainder:
        free = int(sums.free.sum())
        return LayerRemainder(
            name=name,
            **sums.per_image(),
            over_fired=sums.over / sums.neurons,
            under_fired=sums.under / sums.neurons,
            exact=(sums.neurons - sums.over - sums.under) / sums.neurons,
            clipped=1 - free / sums.neurons,
            mean_re=float(sums.re.sum()) / max(free, 1),
            mean_abs_re=float(sums.abs_re.sum()) / max(free, 1),
            mean_re_per_channel=(sums.re / sums.free.clamp(min=1)).tolist(),
        )

    def table(self) -> str:
        """Return one aligned line per layer."""
        shares = ["over-fired %", "under-fired %", "exact %", "clipped %"]
        rows = []
        for layer in self.layers():
            fractions = (layer.over_fired, layer.under_fired, layer.exact, layer.clipped)
            percent = [f"{100 * fraction:.2f}" for fraction in fractions]
            means = [f"{layer.mean_re:+.4f}", f"{layer.mean_abs_re:.4f}"]
            rows.append([layer.name, f"{layer.neurons:,}", *percent, *means])
        return table(["layer", "neurons", *shares, "mean Re", "mean |Re|"], rows)

    def plot(self, ax: Any = None) -> Any:
        """Return a figure of the over- and under-fired shares, drawn into matplotlib's ``ax`` if given."""
        layers = self.layers()
        shares = {
            "under-fired": {layer.name: 100 * layer.under_fired for layer in layers},
            "over-fired": {layer.name: 100 * layer.over_fired for layer in layers},
        }
        figure = plot_rates(shares, ylabel="neurons (%)", stacked=True, ax=ax)
        axes = ax or figure.axes[0]
        axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))  # one neuron of thousands must not fill the frame
        if all(layer.exact == 1 for layer in layers):
            axes.text(0.5, 0.5, "every neuron exact", ha="center", transform=axes.transAxes)
        return figure

    def verdict(self) -> str:
        """Return one sentence: the share of exact neurons, and the layer with the most that are not."""
        layers = self.layers()
        neurons = sum(layer.neurons * layer.images for layer in layers)
        wrong = {layer.name: round((1 - layer.exact) * layer.neurons * layer.images) for layer in layers}
        if not any(wrong.values()):
            return f"all {neurons:,} neurons exact"
        worst = max(layers, key=lambda layer: 1 - layer.exact)
        share = 100 * (1 - sum(wrong.values()) / neurons)
        # rounded down: what is not exact must not read as 100 %
        return (
            f"{floor(100 * share) / 100:.2f} % of {neurons:,} neurons exact; worst layer {worst.name}: "
            f"{wrong[worst.name]:,} of {worst.neurons * worst.images:,} not"
        )


class ResidualMonitor(RemainderMonitor):
    """The name that :class:`RemainderMonitor` had in version 0.1."""

    def __init__(self, *args: Any, **options: Any) -> None:
        warnings.warn("ResidualMonitor is RemainderMonitor now", DeprecationWarning, stacklevel=2)
        super().__init__(*args, **options)
