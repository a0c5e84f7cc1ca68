"""NeuroBench counts what our monitors count, where both can see it."""

from __future__ import annotations

import builtins
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from sj_lowlat.conversion import convert, prepare
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation import neurobench_model
from sj_lowlat.layers import LowLatencyIFNode
from sj_lowlat.monitors import SynOpMonitor
from sj_lowlat.simulation import simulate

IMAGES = torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))


def network(leaky: bool) -> nn.Module:
    torch.manual_seed(1)
    act = (lambda: nn.LeakyReLU(0.1)) if leaky else nn.ReLU
    layers = [
        nn.Conv2d(2, 6, 3, padding=1), act(), nn.MaxPool2d(2),
        nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=2), act(),
        nn.Flatten(), nn.Linear(24, 5), act(), nn.Linear(5, 3),
    ]  # fmt: skip
    return convert(prepare(nn.Sequential(*layers).eval(), 8, IMAGES))


@pytest.mark.parametrize("leaky", [False, True])
@pytest.mark.parametrize("schedule", ["8+4", "1+4b8", "3+2b4"])
def test_accumulates_are_those_of_the_monitor(leaky: bool, schedule: str) -> None:
    """Negative spikes and bursts count; the image counts once, as multiply-accumulates."""
    pytest.importorskip("neurobench", reason="NeuroBench is not installed")
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.workload import ActivationSparsity, SynapticOperations

    snn = network(leaky)
    with SynOpMonitor(snn) as ours:
        want = simulate(snn, IMAGES, schedule).final
    model = neurobench_model(snn, schedule)
    torch.testing.assert_close(model(IMAGES), want)
    model.reset_hooks()
    data = DataLoader(TensorDataset(IMAGES, torch.zeros(3)), batch_size=3)
    found = Benchmark(model, data, [], [], [[], [SynapticOperations, ActivationSparsity]]).run(quiet=True)
    counted = found["SynapticOperations"]
    assert counted["Effective_ACs"] == pytest.approx(sum(each.synops for each in ours.layers()) / 3)
    inside = F.conv2d(torch.ones(1, 2, 8, 8), torch.ones(6, 2, 3, 3), padding=1)  # not at padding, as ours
    assert counted["Effective_MACs"] == pytest.approx(float(inside.sum()))
    assert counted["Effective_ACs"] > 0 and 0 < found["ActivationSparsity"] < 1


def test_what_neurobench_cannot_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    ann = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Conv2d(3, 1, 1))
    found = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("neurobench"):
            raise ImportError("no module named 'neurobench'")
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match="pip install neurobench"):
        neurobench_model(network(False), 8)
    monkeypatch.undo()
    pytest.importorskip("neurobench", reason="NeuroBench is not installed")
    with pytest.raises(InputError, match="is for spiking networks"):
        neurobench_model(ann, 8)
    assert not any(isinstance(module, LowLatencyIFNode) for module in ann.modules())
