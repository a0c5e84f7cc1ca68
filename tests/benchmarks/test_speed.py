"""The scripts that time things, on next to nothing: what they write down, not how long it took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from sj_lowlat.conversion import convert
from sj_lowlat.models import snn_tiny_yolov3

FOLDER = Path(__file__).parents[2] / "benchmarks"
VARIABLE = "SJ_LOWLAT_KERNEL"
TINY = ["--sizes", "64", "--steps", "2", "--repeats", "1", "--width", "0.125"]


def test_speed_compares_everything(
    script: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, figure = tmp_path / "r.json", tmp_path / "f.png"
    places = ["--results", str(results), "--figure", str(figure)]
    script("speed").main([*TINY, "--parts", "strided", "shipped", "extras", "import", *places])
    record = json.loads(results.read_text())
    assert {"command", "versions", "seed", "machine", "kernel", "others_cores"} <= set(record)
    assert {"cpu", "cores", "torch_threads", "load_average_1_min"} <= set(record["machine"])
    (setting,) = record["settings"]
    assert setting["spikes"]["differing"] == 0 < setting["spikes"]["spikes"]
    names = [row["name"] for row in setting["strided"]]
    theirs = ["SpikingJelly, step by step", "SpikingJelly, step by step, NCHW", "SpikingJelly, multi-step"]
    assert names[:3] == theirs and "ANN" in names
    for row in setting["strided"] + setting["shipped"]:
        assert 0 < row["ms"]["q25"] <= row["ms"]["median"] <= row["ms"]["q75"]
        assert row["run_over_ann"] > 0 and row["images_per_s"] > 0
        assert (row["steps"] is None) == ("times_as_fast" not in row)
        if row["steps"] is not None:
            assert row["ms_per_step"] > 0 and row["steps_per_s"] > 0 and row["times_as_fast"] > 0
            assert sum(row["shares"].values()) == pytest.approx(1, abs=0.01)
    assert setting["strided"][0]["times_as_fast"] == 1 == setting["strided"][-1]["run_over_ann"]
    steps = {row["name"]: row["steps"] for row in setting["shipped"]}
    assert steps["this package, fp32"] == 2 and steps["this package, fp32, as shipped (1+1b32)"] == 2
    assert all(row["over_plain"] > 0 for row in setting["extras"])
    assert [row["over_plain"] for row in setting["extras"][:1]] == [1]
    assert record["import_s"]["median"] > 0
    assert figure.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "fires otherwise: 0 of" in printed and printed.count("\n| this package, int8") == 3


def test_speed_of_the_other_detector(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    results, small = tmp_path / "r.json", "snn-yolo-fastest-xl-coco"
    places = ["--results", str(results), "--figure", str(tmp_path / "f.png")]
    script("speed").main([*TINY, "--parts", "shipped", "--shipped", small, *places])
    record = json.loads(results.read_text())
    names = [row["name"] for row in record["settings"][0]["shipped"]]
    assert record["shipped"] == small and "this package, fp32, as shipped (1+1b127)" in names


def test_a_grid_has_every_setting(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    results, figure = tmp_path / "r.json", tmp_path / "f.png"
    options = ["--grid", "--sizes", "32", "64", "--batch", "1", "2", "--steps", "1", "2", "--repeats", "1"]
    script("speed").main([*options, *TINY[-2:], "--results", str(results), "--figure", str(figure)])
    settings = json.loads(results.read_text())["settings"]
    assert len({(s["size"], s["batch"], s["steps"]) for s in settings}) == len(settings) == 8
    assert all(len(s["strided"]) == 5 and "shipped" not in s for s in settings)
    assert figure.is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sizes", "50"], "multiples of 32"),
        (["--steps", "0"], "must be 1 or more"),
        (["--batch", "1", "-1"], "must be 1 or more"),
    ],
)
def test_speed_refuses_what_cannot_be(
    script: Callable[[str], ModuleType], options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        script("speed").parse(options)
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["speed", "kernels"])
def test_without_a_gpu_there_is_a_plain_sentence(
    script: Callable[[str], ModuleType], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script(name).main(["--device", "cuda", "--results", str(tmp_path / "r.json")])
    assert "no GPU" in capsys.readouterr().out and not (tmp_path / "r.json").exists()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells its peak, others do not")
def test_peak_memory_is_that_of_its_own_process(tmp_path: Path) -> None:
    """This one holds 500 MB more than the child may say that it began with."""
    ballast = torch.ones(500 << 20, dtype=torch.uint8)
    snn = convert(
        snn_tiny_yolov3(2, width=0.125, input_size=64),
        neuron="if",
        scale="max",
        calibration=torch.rand(1, 3, 64, 64),
    )
    torch.save(snn, tmp_path / "net.pt")
    command = [
        sys.executable,
        FOLDER / "competitors.py",
        tmp_path / "net.pt",
        "--steps",
        "3",
        "--size",
        "256",
    ]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert 0 < found["loaded_mib"] < found["peak_mib"]
    here = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line)
    assert found["loaded_mib"] < int(here.split()[1]) / 2**10 and len(ballast)


def test_only_if_neurons_become_those_of_spikingjelly(script: Callable[[str], ModuleType]) -> None:
    images = torch.rand(1, 3, 64, 64)
    net = snn_tiny_yolov3(2, width=0.125, input_size=64)
    snn = convert(net, neuron="signed", scale="max", calibration=images)
    with pytest.raises(ValueError, match="IFNode cannot"):
        script("competitors").spikingjelly_network(snn)


def test_spikingjellys_modes_agree_with_each_other_and_with_ours(script: Callable[[str], ModuleType]) -> None:
    competitors = script("competitors")
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    net = snn_tiny_yolov3(2, width=0.125, input_size=64)
    snn = convert(net, neuron="residual-fix", scale="max", calibration=images)
    nets = {"simulate": snn, "step by step": competitors.spikingjelly_network(snn)}
    nets["merged"] = competitors.spikingjelly_network(snn, 5)
    with torch.no_grad():
        outputs = {
            how: competitors.RUNNERS[how](one, images, competitors.plain(5)) for how, one in nets.items()
        }
    wanted = outputs.pop("simulate").final
    for maps in outputs.values():
        for got, ours in zip(maps, wanted, strict=True):
            torch.testing.assert_close(got, ours, rtol=1e-4, atol=1e-4)


def test_the_kernel_is_put_back(script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = script("competitors").kernel
    monkeypatch.delenv(VARIABLE, raising=False)
    with kernel("reference"):
        assert os.environ[VARIABLE] == "reference"
    assert VARIABLE not in os.environ
    monkeypatch.setenv(VARIABLE, "cupy")
    with kernel("cpp"):
        pass
    assert os.environ[VARIABLE] == "cupy"


def test_rounds_time_every_job_as_often_and_warm_up_before(script: Callable[[str], ModuleType]) -> None:
    timing = script("timing")
    calls: list[str] = []
    jobs = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    first, times = timing.rounds(jobs, 4, "cpu", before=lambda: calls.append("before"))
    assert set(first) == set(times) == set(jobs) and all(len(own) == 4 for own in times.values())
    assert calls[::2] == ["before"] * 15 and calls[1:6:2] == list("abc")
    assert all(sorted(calls[start : start + 6 : 2]) == list("abc") for start in range(7, 30, 6))
    assert timing.quartiles([4.0, 1.0, 2.0, 3.0, 5.0]) == {"median": 3.0, "q25": 2.0, "q75": 4.0}
    assert timing.ratio([2.0, 30.0, 8.0], [1.0, 10.0, 2.0]) == 3.0


def test_shares_are_told_apart_by_the_kind_of_layer(script: Callable[[str], ModuleType]) -> None:
    net = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
    parts = script("timing").shares(net, lambda: net(torch.rand(1, 8, 64, 64)), "cpu")
    assert parts["convolutions"] > 0 == parts["neurons"] == parts["max-pools"]
    assert sum(parts.values()) == pytest.approx(1, abs=0.01)


def test_kernels_fire_the_same_and_are_timed(
    script: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kernels, results, figure = script("kernels"), tmp_path / "r.json", tmp_path / "f.png"
    named = kernels.available("cpu")
    options = ["--kernels", *named, "--shrink", "26", "--repeats", "1"]
    kernels.main([*options, "--results", str(results), "--figure", str(figure)])
    record = json.loads(results.read_text())
    assert {"command", "versions", "machine", "others_cores"} <= set(record)
    assert [row["case"].split(", ")[0] for row in record["layers"][:: len(kernels.RULES)]][:3] == [
        "16x16x16", "32x8x8", "256x1x1",
    ]  # fmt: skip
    for row in record["layers"]:
        assert {*named, "copy"} <= set(row["kernels"])
        for name, found in row["kernels"].items():
            assert found["same_spikes"] is (None if name == "copy" else True), (row["case"], name)
            assert min(found[key] for key in ("ms_per_step", "gb_per_s", "share_of_copy")) >= 0
            assert found["ns_per_neuron_step"] > 0
        assert ("SpikingJelly" in row["kernels"]) == (", if," in row["case"])
    assert ("cpp_build_s" in record) == ("cpp" in named) and figure.is_file()
    assert capsys.readouterr().out.count("\n| 32x8x8") == (len(kernels.RULES) + 3) * (len(named) + 1) + 1
