"""The table of builders."""

from __future__ import annotations

import pytest
from torch import nn

from sj_lowlat.errors import InputError
from sj_lowlat.models import build, create, register
from sj_lowlat.models.registry import BUILDERS


@pytest.fixture(autouse=True)
def _restore(monkeypatch) -> None:
    for name, builder in dict(BUILDERS).items():
        monkeypatch.setitem(BUILDERS, name, builder)


@pytest.fixture
def mine(monkeypatch):
    monkeypatch.delitem(BUILDERS, "mine", raising=False)

    def mine(channels: int = 3) -> nn.Module:
        return nn.Conv2d(channels, 8, 1)

    yield register(mine)
    BUILDERS.pop("mine", None)


def test_has_the_detectors() -> None:
    assert {"darknet", "tiny_yolov3", "snn_tiny_yolov3"} <= set(BUILDERS)
    net = create("snn_tiny_yolov3", num_classes=2, width=0.1, input_size=64)
    assert net.build_config["builder"] == "snn_tiny_yolov3"


def test_users_extend_it(mine) -> None:
    assert create("mine", channels=5).in_channels == 5
    assert build({"builder": "mine", "kwargs": {"channels": 7}}).in_channels == 7
    register(mine)  # again, as when a notebook cell runs twice

    def other() -> nn.Module:
        return nn.Identity()

    other.__name__ = "mine"
    with pytest.raises(InputError, match="'mine' exists already"):
        register(other)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"builder": "yolov9", "kwargs": {}}, "no model builder named 'yolov9'.*tiny_yolov3"),
        ({"builder": "tiny_yolov3", "kwargs": {"depth": 3}}, "depth"),
        ({"builder": "tiny_yolov3"}, "must be"),
        ({"kwargs": {}}, "must be"),
        ([], "must be"),
    ],
)
def test_refuses(config, message) -> None:
    with pytest.raises(InputError, match=message):
        build(config)
