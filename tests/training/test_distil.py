from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sj_lowlat.detect import HeadSpec
from sj_lowlat.errors import InputError
from sj_lowlat.training import distillation_loss, output_distance
from sj_lowlat.training.distil import LOGIT_GAIN


def specs(kind: str) -> tuple[HeadSpec, HeadSpec]:
    return (HeadSpec(((40.0, 40.0), (60.0, 30.0)), 32, 3, kind), HeadSpec(((12.0, 12.0),), 16, 3, kind))


def maps_of(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(2, s.channels, 64 // s.stride, 64 // s.stride, generator=generator) * 2
        for s in specs("yolo")
    ]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(["yolo", "region"]), step=st.floats(1e-3, 1.0))
def test_least_and_flat_where_maps_agree(seed: int, kind: str, step: float) -> None:
    teacher = maps_of(seed)
    student = [m.clone().requires_grad_(True) for m in teacher]
    terms = distillation_loss(student, teacher, specs(kind))
    for name, value in terms.items():
        assert value.item() == pytest.approx(0, abs=1e-5), name
    sum(terms.values()).backward()  # type: ignore[union-attr]
    for head_map in student:
        assert head_map.grad is not None
        assert head_map.grad.abs().max() < 1e-6
    moved = [m + step * torch.randn(m.shape, generator=torch.Generator().manual_seed(seed)) for m in teacher]
    for name, value in distillation_loss(moved, teacher, specs(kind)).items():
        assert value > 0, name


@pytest.mark.parametrize("kind", ["yolo", "region"])
def test_against_torch_distributions(kind: str) -> None:
    student, teacher = maps_of(1), maps_of(2)
    wanted = {"distil_objectness": 0.0, "distil_classes": 0.0, "distil_box": 0.0, "distil_logit": 0.0}
    bernoulli, categorical = torch.distributions.Bernoulli, torch.distributions.Categorical
    kl = torch.distributions.kl_divergence
    for s_map, t_map, spec in zip(student, teacher, specs(kind), strict=True):
        values = 5 + spec.num_classes
        anchors = [slice(a * values, (a + 1) * values) for a in range(len(spec.anchors))]
        pairs = [(s_map[:, a].movedim(1, -1), t_map[:, a].movedim(1, -1)) for a in anchors]
        scale = 1 / max(sum(t[..., 4].sigmoid().sum().item() for _, t in pairs), len(s_map)) / 2
        for s, t in pairs:
            weight = t[..., 4].sigmoid()
            objects = kl(bernoulli(logits=t[..., 4]), bernoulli(logits=s[..., 4]))
            wanted["distil_objectness"] += scale * objects.sum().item()
            if kind == "region":
                classes = kl(categorical(logits=t[..., 5:]), categorical(logits=s[..., 5:]))
            else:
                classes = kl(bernoulli(logits=t[..., 5:]), bernoulli(logits=s[..., 5:])).sum(-1)
            wanted["distil_classes"] += scale * (weight * classes).sum().item()
            box = (s[..., :2].sigmoid() - t[..., :2].sigmoid()) ** 2 + (s[..., 2:4] - t[..., 2:4]) ** 2
            wanted["distil_box"] += scale * (weight[..., None] * box).sum().item()
            wanted["distil_logit"] += LOGIT_GAIN * F.mse_loss(s[..., 4], t[..., 4]).item() / len(pairs) / 2
    found = distillation_loss(student, teacher, specs(kind))
    assert {name: value.item() for name, value in found.items()} == pytest.approx(wanted, rel=1e-4)


def test_the_teacher_gets_no_gradient() -> None:
    student, teacher = [[m.requires_grad_(True) for m in maps_of(seed)] for seed in (1, 2)]
    sum(distillation_loss(student, teacher, specs("yolo")).values()).backward()  # type: ignore[union-attr]
    assert all(m.grad is None for m in teacher)
    assert all((m.grad.abs().amax((0, 2, 3)) > 0).all() for m in student if m.grad is not None)
    assert all(m.grad is not None for m in student)


def test_silence_is_not_divided_by_nothing() -> None:
    student, teacher = maps_of(1), [torch.full_like(m, -200.0) for m in maps_of(2)]
    assert all(value.isfinite() for value in distillation_loss(student, teacher, specs("yolo")).values())


def test_any_outputs() -> None:
    a, b = (torch.zeros(2, 3), torch.zeros(1)), (torch.ones(2, 3), torch.full((1,), 3.0))
    assert output_distance(a, b)["distil_mse"].item() == pytest.approx((1 + 9) / 2)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="same heads"):
        output_distance((torch.zeros(2, 3),), (torch.zeros(2, 4),))
    with pytest.raises(InputError, match="same heads"):
        distillation_loss(maps_of(1), maps_of(1)[:1], specs("yolo"))
