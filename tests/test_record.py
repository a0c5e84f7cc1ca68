"""What all results share."""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest
import torch
from torch import nn

import sj_lowlat
from sj_lowlat.record import evaluating, provenance, table, versions


def test_provenance_is_json_and_names_command_versions_and_seed() -> None:
    record = json.loads(json.dumps(provenance(7)))
    assert record["command"] == sys.argv and record["seed"] == 7
    assert record["versions"]["sj_lowlat"] == sj_lowlat.__version__
    assert record["versions"]["torch"] == version("torch")
    assert "seed" not in provenance() and provenance(0)["seed"] == 0


def test_versions_of_a_checkout_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("sj_lowlat.record.version", missing)
    assert versions()["sj_lowlat"] == sj_lowlat.__version__
    assert versions()["torch"] == "unknown"


def test_every_module_gets_its_own_flag_back() -> None:
    first = nn.Sequential(nn.BatchNorm2d(2), nn.Sequential(nn.Dropout(), nn.BatchNorm2d(2))).train()
    first[0].eval()
    second = nn.Sequential(nn.Dropout()).eval()
    second[0].train()
    flags = [module.training for network in (first, second) for module in network.modules()]
    with pytest.raises(RuntimeError, match="inside"), evaluating(first, second):
        assert not any(module.training for network in (first, second) for module in network.modules())
        raise RuntimeError("inside")
    assert [module.training for network in (first, second) for module in network.modules()] == flags


def test_networks_that_share_a_module() -> None:
    shared = nn.Dropout().train()
    with evaluating(nn.Sequential(shared), nn.Sequential(shared)):
        assert not shared.training
        assert torch.equal(shared(torch.ones(9)), torch.ones(9))
    assert shared.training


def test_columns_of_a_table_are_aligned() -> None:
    assert table(["layer", "rate"], [["a", "0.5"], ["conv", "12.25"]]).splitlines() == [
        "layer   rate",
        "-----  -----",
        "a        0.5",
        "conv   12.25",
    ]
    assert table(["a", "b"], [["x", "longer"], ["yy", "z"]], left=2).splitlines()[2:] == [
        "x   longer",
        "yy  z",
    ]
    assert table(["a", "b"], []).splitlines() == ["a  b", "-  -"]
