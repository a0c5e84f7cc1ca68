"""The command line in two processes says, writes and finds what it does in one."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sj_lowlat.cli import main
from tests.cli.conftest import Places, Ran
from tests.processes import two_processes

TRAINING = ("--size", 64, "--batch-size", 3, "--precision", "fp32", "--lr", 1e-4, "--checkpoint-every", 2)


def commands(places: Places, folder: Path) -> dict[str, list[str]]:
    """Five pictures: three are monitored; or batches of two."""
    snn = ("--model", places.snn, "--data", places.data, "--limit", 5)
    words = {
        "curve": ("evaluate", *snn, "--readout", "2,4,6", "--flush", 2, "--ann", places.ann, "--monitored", 3,
                  "--confidence", 20, "--output", folder / "curve.json"),
        "stop": ("evaluate", *snn, "--stop", "stable", "--flush", 8, "--batch-size", 2, "--monitored", 0,
                 "--encoder", "poisson", "--output", folder / "stop.json"),
        "finetune": ("finetune", "--model", places.ann, "--data", places.data, "--levels", 4, *TRAINING,
                     "--iterations", 3, "--log-every", 1, "--output", folder / "net"),
    }  # fmt: skip
    return {name: list(map(str, line)) for name, line in words.items()}


def work(rank: int, places: Places, folder: Path) -> None:
    ran = {}
    for name, line in {**commands(places, folder), "refused": ["detect", str(places.pictures)]}.items():
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = main(line)
        ran[name] = (code, out.getvalue(), err.getvalue())
        os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + 1)
    (folder / f"{rank}.json").write_text(json.dumps(ran))


@pytest.fixture(scope="module")
def folder(places: Places, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("processes")
    two_processes(work, places, root)
    return root


@pytest.fixture(scope="module")
def both(folder: Path) -> list[dict[str, Ran]]:
    read = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
    return [{name: Ran(*ran) for name, ran in told.items()} for told in read]


@pytest.mark.parametrize("name", ["curve", "stop"])
def test_evaluation(
    name: str,
    places: Places,
    folder: Path,
    both: list[dict[str, Ran]],
    run: Callable[..., Ran],
    tmp_path: Path,
) -> None:
    alone = run(*commands(places, tmp_path)[name])
    assert [told[name].code for told in both] == [0, 0]
    assert both[0][name].out == alone.out.replace(str(tmp_path), str(folder)) and both[1][name].out == ""
    one, two = (json.loads((place / f"{name}.json").read_text()) for place in (tmp_path, folder))
    assert [found["settings"].pop("processes") for found in (one, two)] == [1, 2]
    for found in (one, two):
        del found["settings"]["seconds"], found["settings"]["command"]
    assert one == two
    assert one["points"][-1]["images"] == 5
    assert one["energy"] is None if name == "stop" else one["energy"]["images"] == 3


def test_training(
    places: Places, folder: Path, both: list[dict[str, Ran]], run: Callable[..., Ran], tmp_path: Path
) -> None:
    alone = run(*commands(places, tmp_path)["finetune"])
    assert alone.code == both[0]["finetune"].code == both[1]["finetune"].code == 0
    assert both[0]["finetune"].out.splitlines()[0] == alone.out.splitlines()[0]
    assert both[1]["finetune"].out == both[1]["finetune"].err == ""
    logs = [(place / "net" / "log.jsonl").read_text().splitlines() for place in (tmp_path, folder)]
    one, two = ([json.loads(line) for line in log] for log in logs)
    assert [line["iteration"] for line in two] == [1, 2, 3]
    # later, what is rounded to the other level in float32 counts
    assert two[0]["losses"] == pytest.approx(one[0]["losses"], rel=1e-5)
    nets = [load_file(place / "net" / "model.safetensors") for place in (tmp_path, folder)]
    assert nets[0].keys() == nets[1].keys()


def test_a_verb_that_cannot_share_its_work(both: list[dict[str, Ran]]) -> None:
    for rank, told in enumerate(both):
        code, out, err = told["refused"]
        assert code == 2 and out == ""
        assert err == (
            f"sj-lowlat (process {rank}): error: 2 processes were started, and each would do all the work of"
            " detect: start one process, or unset WORLD_SIZE if it is one; finetune and evaluate can share"
            " their work\n"
        )


def child(launcher: int, rank: int) -> int:
    """The process of a rank."""
    wanted = f"RANK={rank}".encode()
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return next(int(c) for c in children if wanted in Path(f"/proc/{c}/environ").read_bytes().split(b"\0"))


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_killed_ends_the_run_and_a_single_one_goes_on(
    sign: signal.Signals, places: Places, run: Callable[..., Ran], tmp_path: Path
) -> None:
    words = ["finetune", "--model", places.ann, "--data", places.data, *TRAINING, "--log-every", 1]
    words += ["--iterations", 60, "--output", tmp_path]
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "sj_lowlat")
    job = subprocess.Popen(
        [sys.executable, "-m", *launcher, *map(str, words)], stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "checkpoint.pt").exists():
        assert job.poll() is None
        time.sleep(0.01)
    os.kill(child(job.pid, 1), sign)
    _, told = job.communicate(timeout=60)
    assert job.returncode != 0
    begun = len((tmp_path / "log.jsonl").read_text().splitlines())
    if sign == signal.SIGKILL:  # process 0 notices by itself, or the launcher tells it first
        ended = "sj-lowlat (process 0): error: another process of this run ended or did not answer"
        assert ended in told or "sj-lowlat: interrupted; the same command goes on" in told
    else:  # all processes stop after the same step, and keep it
        assert "sj-lowlat: interrupted; the same command goes on from the last step" in told
        assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["iteration"] == begun
    assert 0 < begun < 60 and not (tmp_path / "finetune.json").exists()
    assert run(*words).code == 0
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == list(range(1, 61))
