"""Filters that learn without labels: STDP in a convolution whose filters compete.

The rule is that of SpikingJelly's ``STDPLearner``; around it stand, as in Kheradpisheh et al. 2018 (Neural
Networks 99) and Diehl & Cook 2015, winners that silence the other filters at their place, and homeostasis:
thresholds that rise for filters which win too often, and a fixed mean weight of each filter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from spikingjelly.activation_based.learning import STDPLearner
from torch import Tensor, nn


@dataclass(frozen=True)
class Rule:
    """Settings of the learning.

    :param tau_pre: steps after which the trace of an input spike has fallen to about 1/e, at least 1
    :param tau_post: of a filter's own spike
    :param potentiation: factor of growth, which is proportional to 1 - w
    :param depression: factor of shrinking, which is proportional to w
    :param rate: change of a weight for one spike of the filter
    :param reach: first threshold, in steps of mean input
    :param balance: change of a threshold in a batch, for a filter that wins everywhere, as part of the first
    """

    tau_pre: float = 2.0
    tau_post: float = 2.0
    potentiation: float = 1.0
    depression: float = 0.25
    rate: float = 0.05
    reach: float = 2.0
    balance: float = 0.1


class Competition(nn.Module):
    """Integrate-and-fire neurons of which at each place and step only the one farthest above its threshold
    fires; its spike resets the potentials of all filters at that place to 0 (lateral inhibition).

    :param filters: C
    :param threshold: of all filters at first
    """

    threshold: Tensor

    def __init__(self, filters: int, threshold: float) -> None:
        super().__init__()
        self.register_buffer("threshold", torch.full((filters,), threshold))
        self.v: Tensor | None = None  # [N, C, H, W]

    def reset(self) -> None:
        """Go back to V = 0."""
        self.v = None

    def forward(self, x: Tensor) -> Tensor:
        """The currents ``[N, C, H, W]`` of one step to spikes of 0 and 1."""
        v = x if self.v is None else self.v + x
        above = v - self.threshold.view(-1, 1, 1)
        best = above.argmax(1, keepdim=True)
        fires = above.gather(1, best) >= 0
        self.v = torch.where(fires, 0.0, v)
        return torch.zeros_like(v).scatter_(1, best, fires.to(v.dtype))


def both(spikes: Tensor) -> Tensor:
    """Spikes ``[N, C, H, W]`` with those of OFF cells ``[N, 2C, H, W]``, which fire where the others do not.

    So ``w_on s + w_off (1 - s)`` is linear in s with the weight ``w_on - w_off``: synapses that only excite
    learn a signed filter.
    """
    return torch.cat((spikes, 1 - spikes), 1)


class Filters:
    """A convolution of weights in [0, 1] from ON and OFF cells, and its learning.

    :param channels: C, of the ON cells
    :param seed: of the first weights, which are spread around 1/2
    """

    def __init__(self, channels: int, filters: int, size: int, stride: int, rule: Rule, seed: int) -> None:
        self.rule = rule
        self.synapses = nn.Conv2d(2 * channels, filters, size, stride, bias=False)
        generator = torch.Generator().manual_seed(seed)
        start = 0.5 + 0.1 * (torch.rand(self.synapses.weight.shape, generator=generator) - 0.5)
        self.synapses.weight.data.copy_(start)
        self.first = rule.reach * channels * size**2 / 2  # C k^2 cells fire at a time, at weights of 1/2
        self.neurons = Competition(filters, self.first)
        self.learner = STDPLearner(
            "s", self.synapses, self.neurons, rule.tau_pre, rule.tau_post,
            f_pre=lambda w: rule.depression * w, f_post=lambda w: rule.potentiation * (1 - w),
        )  # fmt: skip

    def to(self, device: torch.device) -> None:
        """Move all parts to a device, in place."""
        self.synapses.to(device)
        self.neurons.to(device)

    @property
    def weight(self) -> Tensor:
        """The signed filters without their mean, in [-2, 2], ``[filters, C, k, k]``."""
        on, off = self.synapses.weight.detach().chunk(2, 1)
        return on - off - (on - off).mean((1, 2, 3), keepdim=True)

    @torch.no_grad()
    def learn(self, batch: Iterable[Tensor]) -> Tensor:
        """Learn from the steps of one batch.

        :param batch: for each step the spikes of 0 and 1 of the ON cells, ``[N, C, H, W]``
        :return: how many spikes each filter fired, ``[filters]``
        """
        weight, wins = self.synapses.weight, torch.zeros_like(self.neurons.threshold)
        for spikes in batch:
            wins += self.neurons(self.synapses(both(spikes))).sum((0, 2, 3))
        change = self.learner.step(on_grad=False)
        self.learner.reset()
        self.neurons.reset()
        if change is None or not wins.any():
            return wins
        weight += self.rule.rate * change / wins.clamp_min(1).view(-1, 1, 1, 1)
        weight += 0.5 - weight.mean((1, 2, 3), keepdim=True)
        weight.clamp_(0, 1)
        share = wins / wins.sum()
        self.neurons.threshold += self.rule.balance * self.first * (share - 1 / len(share))
        return wins


def contrast(images: Tensor, window: int, gain: float) -> Tensor:
    """Photos around grey: ``1/2 + gain (x - mean of its window)``, clipped to [0, 1].

    :param images: ``[N, C, H, W]`` in [0, 1]
    :param window: side of the window in pixels, odd
    """
    edges = F.pad(images, [window // 2] * 4, "reflect")
    return (0.5 + gain * (images - F.avg_pool2d(edges, window, 1))).clamp(0, 1)
