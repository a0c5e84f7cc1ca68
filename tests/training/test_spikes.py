"""The penalty on spikes against spikes that were counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.errors import InputError
from sj_lowlat.models import tiny_yolov3
from sj_lowlat.monitors import SynOpMonitor
from sj_lowlat.network import GraphNetwork
from sj_lowlat.simulation import simulate
from sj_lowlat.training import FinetuneConfig, finetune
from sj_lowlat.training.spikes import SpikePenalty, spike_loss

IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


class Branches(nn.Module):
    """1 x 1 convolutions alone: a spike costs the same everywhere; a sum, a concatenation, a leaky ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, n, 1) for n in (6, 6, 4))
        self.joined, self.out = nn.Conv2d(10, 5, 1), nn.Conv2d(5, 2, 1)
        self.acts = nn.ModuleList([nn.ReLU(), nn.ReLU(), nn.LeakyReLU(0.25), nn.ReLU()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b, c = (act(conv(x)) for act, conv in zip(self.acts, (self.a, self.b, self.c), strict=False))
        return self.out(self.acts[3](self.joined(torch.cat((a + b, c), 1))))


def quantised(model: nn.Module, images: torch.Tensor = IMAGES, **options: Any) -> GraphNetwork:
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.6)
    return prepare(model.to(images.dtype), 8, images, **options)


def penalty(quant: GraphNetwork, images: torch.Tensor) -> float:
    counting = SpikePenalty(quant, images[:1])
    with torch.no_grad(), counting.counted() as counted:
        quant(images)
    return float(spike_loss(counted, len(images))["spikes"])


def counted(quant: GraphNetwork, images: torch.Tensor) -> float:
    """Operations of the settled spiking network over the multiplications of the ANN."""
    snn = convert(quant)
    with SynOpMonitor(snn) as operations:
        simulate(snn, images, mode="counts")
    rows = operations.layers()
    return sum(row.synops for row in rows) / len(images) / sum(row.ann_macs for row in rows)


@pytest.mark.parametrize("per_channel", [False, True])
def test_it_is_what_the_settled_network_costs(per_channel: bool) -> None:
    quant = quantised(Branches(), per_channel=per_channel, sums="tie")
    assert penalty(quant, IMAGES) == pytest.approx(counted(quant, IMAGES), rel=1e-9)


def test_a_detector_with_pools_comes_near() -> None:
    """Spikes at borders reach fewer outputs, and those behind max-pools are others."""
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(2))
    torch.manual_seed(0)
    quant = prepare(tiny_yolov3(2, width=0.25, input_size=96), 8, images)
    assert penalty(quant, images) == pytest.approx(counted(quant, images), rel=0.3)


def test_less_is_sent_after_training_with_it(make_detector: Any, make_data: Any) -> None:
    torch.manual_seed(0)
    data = make_data()
    images = torch.stack([data[index].image for index in range(len(data))]) / 255
    sent = {}
    for weight in (0.0, 3.0):
        quant = prepare(make_detector(), 8, images)
        config = FinetuneConfig(iterations=20, batch_size=4, size=64, lr=3e-3, spike_weight=weight)
        finetune(quant, data, make_detector(), replace(config, detection_weight=0))
        sent[weight] = penalty(quant, images)
    assert sent[3.0] < 0.8 * sent[0.0]  # 0.69 to 0.73: rounded to bf16, which CPUs do differently


def test_it_is_for_quant_anns(make_detector: Any, make_data: Any) -> None:
    config = FinetuneConfig(iterations=1, batch_size=2, size=64, spike_weight=1.0)
    with pytest.raises(InputError, match="spike_weight is for a Quant ANN"):
        finetune(make_detector(), make_data(), config=config)
