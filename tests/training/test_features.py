"""Distance of inner maps, against numpy's correlation."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sj_lowlat.errors import InputError
from sj_lowlat.training import FinetuneConfig, finetune
from sj_lowlat.training.distil import feature_loss, shared_layers, watch


def random_maps(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(
    seed=st.integers(0, 10**6),
    channels=st.integers(1, 4),
    side=st.sampled_from([3, 52, 60, 104]),
)
def test_is_one_less_the_correlation(seed: int, channels: int, side: int) -> None:
    student, teacher = random_maps(seed, 2, channels, side, 5), random_maps(seed + 1, 2, channels, side, 5)
    teacher = teacher + student
    step = max(1, side // 52)
    want = [
        1 - np.corrcoef(*(maps[:, c, ::step, ::step].flatten() for maps in (student, teacher)))[0, 1]
        for c in range(channels)
    ]
    found = feature_loss([student], [teacher])["distil_features"]
    assert found.item() == pytest.approx(np.mean(want), abs=1e-4)


def test_scale_and_offset_of_a_channel_do_not_count() -> None:
    teacher = random_maps(0, 2, 3, 8, 8)
    student = (teacher * torch.tensor([0.1, 1.0, 30.0]).view(3, 1, 1) + 2).requires_grad_()
    loss = feature_loss([student], [teacher])["distil_features"]
    assert loss.item() == pytest.approx(0, abs=1e-5)
    silent = feature_loss([torch.zeros(2, 3, 4, 4)], [random_maps(1, 2, 3, 4, 4)])["distil_features"]
    assert silent.item() == 1  # a channel that never varies, and no NaN


def test_large_maps_are_left_out_if_there_are_smaller_ones() -> None:
    large, small = random_maps(0, 1, 1, 200, 200), random_maps(1, 1, 1, 4, 4)
    noise = random_maps(2, 1, 1, 200, 200)
    assert feature_loss([large, small], [noise, small])["distil_features"].item() == pytest.approx(
        0, abs=1e-5
    )
    assert feature_loss([large], [noise])["distil_features"].item() > 0.9


def test_other_shapes_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(1, 2, 3, 3\).*\(1, 2, 4, 4\)"):
        feature_loss([torch.zeros(1, 2, 3, 3)], [torch.zeros(1, 2, 4, 4)])


def test_hooks_are_gone_afterwards(make_detector: Any) -> None:
    net = make_detector()
    names = shared_layers(net, copy.deepcopy(net))
    assert len(names) == 5
    with watch(net, names) as outputs:
        net(torch.rand(2, 3, 64, 64))
    assert len(outputs) == 5
    net(torch.rand(2, 3, 64, 64))
    assert len(outputs) == 5 and not any(m._forward_hooks for m in net.modules())


def test_its_gradient_brings_a_student_nearer(make_detector: Any, make_data: Any) -> None:
    teacher, student = make_detector(0).eval(), make_detector(1).eval()
    images = torch.stack([make_data()[i].image for i in range(4)]) / 255
    names = shared_layers(student, teacher)
    optimiser = torch.optim.Adam(student.parameters(), lr=1e-2)
    distances = []
    for _ in range(60):
        with watch(student, names) as ours, watch(teacher, names) as theirs:
            student(images)
            teacher(images)
        loss = feature_loss(ours, theirs)["distil_features"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        distances.append(loss.item())
    assert distances[-1] < 0.5 * distances[0]
    assert all(p.grad is None for p in teacher.parameters())


def test_its_weight_scales_the_term(make_detector: Any, make_data: Any, tmp_path: Path) -> None:
    terms = []
    for weight in (0, 1, 3):
        config = FinetuneConfig(iterations=1, batch_size=2, size=64, feature_weight=weight, precision="fp32")
        finetune(make_detector(1), make_data(), make_detector(0), config, tmp_path / str(weight))
        line = json.loads((tmp_path / str(weight) / "log.jsonl").read_text().splitlines()[0])
        terms.append(line["losses"].get("distil_features"))
    assert terms[0] is None and terms[2] == pytest.approx(3 * terms[1])


def test_strangers_share_no_layers(make_detector: Any, make_data: Any) -> None:
    config = FinetuneConfig(iterations=1, batch_size=2, size=64, feature_weight=1)
    with pytest.raises(InputError, match="feature_weight is above 0, but no batch norm"):
        finetune(make_detector(), make_data(), make_detector(channels=8), config)
