"""Neurons with many thresholds, whose spikes have sizes; with rates, or with differences of means."""

from __future__ import annotations

from typing import Any

import torch

from sj_lowlat.errors import InputError
from sj_lowlat.kernels.reference import power_of_two
from sj_lowlat.layers.spiking import LowLatencyIFNode


class MultiThresholdIFNode(LowLatencyIFNode):
    r"""Neuron of many thresholds: it sends the power of two, 1, 2, 4 ... ``burst``, that is nearest to its
    potential in thresholds, and takes it off.

    That is the largest :math:`2^k` with :math:`V \ge \frac{3}{4} 2^k V_{th}`. Its negative, of :math:`V \le
    -\frac{3}{4} 2^k V_{th}`, is sent only if the sum of what was sent is at least :math:`2^k`, so that
    the sum stays that of a ReLU. [Huang et al., Towards high-performance spiking transformers, ACM MM 2024,
    where the largest threshold is the unit]

    Its state is V and, in ``count``, the sum of what it sent. It runs in torch operations, without gradients.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, counts=True, **kwargs)

    def single_step_functional_forward(
        self, inputs: tuple[torch.Tensor, ...], states: tuple[object, ...], **kwargs: object
    ) -> tuple[tuple[torch.Tensor, ...], tuple[object, ...]]:
        """Refused: its sizes have no surrogate gradient."""
        raise InputError(
            f"{type(self).__name__} has no gradients: use torch.no_grad(), or train signed neurons"
        )

    @torch.no_grad()
    def _run_kernel(
        self, x: torch.Tensor, states: tuple[object, ...]
    ) -> tuple[tuple[torch.Tensor, ...], tuple[object, ...]]:
        v, sent = self._v_and_count(states)
        assert sent is not None
        threshold, spikes = self._per_channel(self.threshold, v).to(v.dtype), []
        for current in x:
            v.add_(current)
            spike = self._nearest(v / threshold, sent)
            v.sub_(spike * threshold)
            sent.add_(spike)
            spikes.append(spike)
        sizes = torch.stack(spikes).to(self._sent_as or x.dtype)
        self._count_for_monitors(sizes, v)
        return (sizes,), states

    def _nearest(self, above: torch.Tensor, sent: torch.Tensor) -> torch.Tensor:
        """What is sent at potentials in thresholds, after a sum of ``sent``."""
        most = 2 ** (self._most_spikes().bit_length() - 1)
        reached = above / 0.75
        up = power_of_two(reached.clamp(max=most))
        down = power_of_two(torch.minimum(-reached, sent).clamp_(max=most))  # both borders, at once
        return torch.where(up >= 1, up, torch.where(down >= 1, -down, 0.0))

    def _count_for_monitors(self, sizes: torch.Tensor, v: torch.Tensor) -> None:
        sums = None if self.sums_wanted is None else self.sums_wanted(v)
        if sums is not None:
            sums.add_(sizes)


class DifferentialIFNode(MultiThresholdIFNode):
    r"""Multi-threshold neuron with differential coding [Huang et al., ICML 2025]: spikes carry changes of the
    mean, so that nothing is sent while the mean stays.

    With E, the mean of the input, and O, that of the output, both 0 at the start, in step t:

    .. math::
        V &\leftarrow V + t \, x(t) + E(t - 1) - O(t - 1), \qquad E(t) = E(t - 1) + x(t) \\
        O(t) &= O(t - 1) + s(t) / t

    s(t) is chosen as in :class:`MultiThresholdIFNode`, whose sum is here that of the rates that readers
    decode. What leaves is s(t) / t, so that readers add up what arrives. The image and all biases come in the
    first step alone: ``Schedule(1, flush=T - 1, charge=1)``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_memory("mean_in", 0.0)
        self.register_memory("mean_out", 0.0)

    def _fresh_states(self, v: torch.Tensor) -> tuple[object, ...]:
        return (v, *(torch.zeros_like(v) for _ in range(3)))

    @torch.no_grad()
    def _run_kernel(
        self, x: torch.Tensor, states: tuple[object, ...]
    ) -> tuple[tuple[torch.Tensor, ...], tuple[object, ...]]:
        if self.spike_dtype is not None:
            raise InputError(
                f"differential neurons send fractions, which {self.spike_dtype} rounds: take fp32"
            )
        v, total, mean_in, mean_out = states
        assert isinstance(v, torch.Tensor) and isinstance(total, torch.Tensor)
        assert isinstance(mean_in, torch.Tensor) and isinstance(mean_out, torch.Tensor)
        threshold, spikes, sizes = self._per_channel(self.threshold, v).to(v.dtype), [], []
        for t, current in enumerate(x, self.steps + 1):
            v.add_(t * current + mean_in - mean_out * threshold)
            total.add_(mean_out)
            size = self._nearest(v / threshold, total)
            v.sub_(size * threshold)
            total.add_(size)
            mean_in.add_(current)
            mean_out.add_(size / t)
            sizes.append(size)
            spikes.append(size / t)
        self._count_for_monitors(torch.stack(sizes), v)
        return (torch.stack(spikes).to(x.dtype),), states
