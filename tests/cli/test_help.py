"""Help, suggestions, completion, and what ``sj-lowlat info`` says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sj_lowlat.cli.entry import VERBS, parser_of
from sj_lowlat.cli.parser import choices
from sj_lowlat.cli.suggest import in_options, near_verb, suggestion, with_hyphens
from sj_lowlat.pretrained import names

Run = Callable[..., Any]


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_in_plain_words(verb: str, run: Run) -> None:
    out = run(verb, "--help").out
    assert not re.search(r"type:|null|Literal|Optional|Namespace|\bNone\b", out)
    assert out.startswith(f"usage: sj-lowlat {verb}") and "[options]" in out.splitlines()[0]


def test_help_is_grouped(run: Run) -> None:
    out = run("detect", "--help").out
    titles = ["What counts as found:", "How a network is opened and run:", "How spike streams are read:"]
    places = [out.index(title) for title in titles]
    assert places == sorted(places)
    assert places[0] < out.index("--max-detections") < places[1] < out.index("--schedule") < places[2]
    assert "-m MODEL, --model MODEL" in out and "(default: 0.25)" in " ".join(out.split())


def test_first_help_has_no_jargon(run: Run) -> None:
    assert "subcommand" not in run("--help").out
    assert run("-V").out == run("--version").out


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["detct", "x"], "did you mean detect?"),
        (["predict", "x"], "did you mean detect?"),
        (["train"], "did you mean finetune?"),
        (["detect", "x", "--min-scor", "0.3"], "did you mean --min-score?"),
        (["detect", "x", "--conf", "0.3"], "did you mean --min-score?"),
        (["detect", "x", "--imgsz", "320"], "unrecognized arguments: --imgsz 320\n"),
        (["detect", "x", "--min-score", "abc"], "--min-score: "),
        (["detect"], "sj-lowlat detect --help tells more"),
        (["detect", "x", "--min_score", "3"], "--min-score is 3.0"),
        (
            ["convert", "-m", "tiny-yolov3:width=0.125,input_size=64", "-o", "{new}"],
            "give --levels, or give --scale 99.9% and calibration images",
        ),
    ],
)
def test_says_what_may_be_meant(words: list[str], meant: str, run: Run, tmp_path: Path) -> None:
    done = run(*(word.replace("{new}", str(tmp_path / "new")) for word in words))
    assert done.code == 2 and meant in done.err and "Traceback" not in done.err


def test_suggestions() -> None:
    assert suggestion("Unrecognized arguments: --modle=x 3 -o", ["--model", "-m"]) == (
        "; did you mean --model?"
    )
    assert suggestion("another message: --modle", ["--model"]) == ""
    assert near_verb("xyz", ["detect"]) == ""
    options = ["--min-score", "--model"]
    assert in_options("min_score is 2, model is x", options) == "--min-score is 2, model is x"
    assert (
        in_options("no file my/min_score and 'min_score'", options) == "no file my/min_score and 'min_score'"
    )
    assert [*map(with_hyphens, ["--a_b=c_d", "--a", "a_b", "-x_y"])] == ["--a-b=c_d", "--a", "a_b", "-x_y"]


def test_info(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.setenv("SJ_LOWLAT_DATA", str(tmp_path))
    about = json.loads(run("info", "--json").out)
    assert about["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert about["kernels"]["on the CPU"] in ("cpp", "reference")
    assert about["found"]["SJ_LOWLAT_DATA"] == f"{tmp_path}: photos"
    lines = run("info").out
    assert all(name in lines for name in (*about, *names()))


def test_choices() -> None:
    actions = {action.dest: action for action in parser_of("detect")._actions}
    assert choices(actions["resize"]) == ["letterbox", "stretch"] and choices(actions["model"]) == []
    neurons = next(action for action in parser_of("convert")._actions if action.dest == "neuron")
    assert "signed" in choices(neurons)  # one of them, or none


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["de"], ["detect", "demo"]),
        (["detect", "--mi"], ["--min-score"]),
        (["detect", "--resize", ""], ["letterbox", "stretch"]),
        (["detect", "-"], parser_of("detect").options()),
        (["convert", "x"], []),
    ],
)
def test_bash_completes(words: list[str], completed: list[str], run: Run) -> None:
    quoted = " ".join(f"'{word}'" for word in words)
    script = f"""{run("completion").out}
COMP_WORDS=(sj-lowlat {quoted}); COMP_CWORD={len(words)}; _sj_lowlat; printf '%s\\n' "${{COMPREPLY[@]}}\""""
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert sorted(done.stdout.split()) == sorted(completed) and not done.stderr


def test_fish_and_zsh(run: Run) -> None:
    fish = run("completion", "--shell", "fish").out
    assert "-l resize" in fish and "-a 'letterbox stretch'" in fish
    assert all(f"-a {verb} " in fish for verb in VERBS)
    assert "bashcompinit" in run("completion", "--shell", "zsh").out
