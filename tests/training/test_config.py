from __future__ import annotations

import json
from typing import Any

import pytest

from sj_lowlat.errors import InputError
from sj_lowlat.training import FinetuneConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("iterations", 0),
        ("iterations", 1.5),
        ("batch_size", -1),
        ("batch_size", True),
        ("size", 0),
        ("size", 100),
        ("size", ()),
        ("size", (64, 65)),
        ("size", (64.0,)),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("lr", "fast"),
        ("weight_decay", -1e-9),
        ("warmup", 1.0),
        ("ema", 1.0),
        ("ema", -0.1),
        ("detection_weight", -1.0),
        ("distillation_weight", float("inf")),
        ("feature_weight", -1.0),
        ("mix", 1.5),
        ("precision", "fp16"),
        ("grad_clip", 0.0),
        ("seed", -1),
        ("workers", -1),
        ("checkpoint_every", 0),
        ("log_every", 0),
    ],
)
def test_a_bad_value_is_named(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=field):
        FinetuneConfig(**{field: value})


def test_no_loss_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="detection_weight and distillation_weight"):
        FinetuneConfig(detection_weight=0, distillation_weight=0)


def test_sizes_and_json() -> None:
    assert FinetuneConfig(size=64).sizes == (64,)
    several = FinetuneConfig(size=[64, 96])  # type: ignore[arg-type]  # as JSON gives it
    assert several.sizes == (64, 96)
    assert FinetuneConfig(**json.loads(json.dumps(several.to_json()))) == several
