"""The command line itself: help, versions, errors, exit codes."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch.distributed as dist

import sj_lowlat
from sj_lowlat.cli.entry import SHARED, VERBS
from sj_lowlat.cli.parser import VerbParser, fill

_LEAN_HELP = """
import sys
from sj_lowlat.cli import main
assert main(["convert", "--help"]) == 0
print([name for name in ("torch", "torchvision", "spikingjelly", "matplotlib") if name in sys.modules])
"""


def test_help_lists_every_verb(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = run("--help")
    assert code == 0 and not err
    for verb, summary in VERBS.items():
        assert re.search(rf"^ +{verb} +{summary.split()[0]}", out, re.MULTILINE)
    assert "sj-lowlat demo" in out.splitlines()[-3]


@pytest.mark.parametrize("verb", VERBS)
def test_a_verbs_help_ends_with_examples_that_its_parser_takes(
    verb: str, run: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, _ = run(verb, "--help")
    assert code == 0 and VERBS[verb] in " ".join(out.split())
    examples = out.partition("\nexamples:\n")[2].replace("\\\n", " ")
    commands = [shlex.split(line) for line in examples.splitlines() if line.strip()]
    assert commands
    parser = VerbParser()
    fill(parser, import_module(f"sj_lowlat.cli.{verb}").run)
    for program, name, *words in commands:
        assert (program, name) == ("sj-lowlat", verb)
        parser.parse_args(words)


@pytest.mark.parametrize("verb", VERBS)
def test_the_list_says_what_the_verb_says_and_every_option_is_explained(verb: str) -> None:
    function = import_module(f"sj_lowlat.cli.{verb}").run
    assert function.__doc__.splitlines()[0] == VERBS[verb]
    parser = VerbParser()
    fill(parser, function)
    options = [action for action in parser._actions if action.dest != "help"]
    assert options and [action.dest for action in options if not action.help] == []
    assert [name for action in options for name in action.option_strings if "_" in name] == []


def test_version(run: Callable[..., tuple[int, str, str]]) -> None:
    assert run("--version")[:2] == (0, f"sj-lowlat {sj_lowlat.__version__}\n")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "verb"),
        (["trian"], "trian"),
        (["evaluate", "--model", "x", "--data", "traffic", "--stpes", "3"], "--stpes"),
        (["evaluate", "--data", "traffic"], "--model"),
        (["evaluate", "--model", "x", "--data", "traffic", "--flush", "few"], "few"),
        (["evaluate", "--model", "x", "--data", "traffic", "--protocol", "voc2007"], "voc2007"),
        (["evaluate"], "required: --model, --data\n"),
        (["detect", "--model", "x"], "required: images\n"),
        (["detect", "x.jpg", "--levels", "many"], "many"),
    ],
)
def test_options_that_cannot_be_understood(
    words: list[str], named: str, run: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = run(*words)
    assert code == 2 and not out
    assert err.startswith("sj-lowlat: error: ") and named in err and "Traceback" not in err


def test_ctrl_c_says_that_a_training_goes_on(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    module = import_module("sj_lowlat.cli.finetune")
    monkeypatch.setattr(module, "finetune", interrupt)
    fresh = "snn-tiny-yolov3:width=0.125,input_size=64"
    code, _, err = run("finetune", "--model", fresh, "--data", "traffic:2", "--output", tmp_path)
    assert code == 130 and "same command" in err and "Traceback" not in err


def test_errors_of_the_system_are_a_sentence(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    scene = "snn-tiny-yolov3:width=0.125,input_size=64"
    code, _, err = run(
        "monitor", "--model", scene, "--data", "traffic:1", "--output", tmp_path / "file" / "folder"
    )
    assert code == 2 and err.startswith("sj-lowlat: error: ") and "no spiking neurons" in err
    code, _, err = run(
        "finetune", "--model", scene, "--data", "traffic:1", "--output", tmp_path / "file" / "x"
    )
    assert code == 2 and err.startswith("sj-lowlat: error: ") and str(tmp_path / "file") in err


def test_the_callers_argv_is_put_back(run: Callable[..., tuple[int, str, str]]) -> None:
    before = sys.argv
    run("--version")
    assert sys.argv is before


def test_python_m_and_quick_help() -> None:
    command = [sys.executable, "-m", "sj_lowlat", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0 and "sj-lowlat" in result.stdout, result.stderr
    lean = subprocess.run([sys.executable, "-c", _LEAN_HELP], capture_output=True, text=True, timeout=300)
    assert lean.returncode == 0, lean.stderr
    assert lean.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in SHARED])
def test_verbs_for_one_process(
    verb: str, run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    needed = {"convert": ["--model", "x", "--output", "y"], "detect": ["x"], "report": ["x"]}
    needed |= {"export": ["--model", "x", "--output", "y"]}
    needed |= {"encode": ["--data", "x", "--output", "y"], "monitor": ["--model", "x", "--data", "y"]}
    code, out, err = run(verb, *needed.get(verb, []))
    assert code == 2 and not out and not [*tmp_path.iterdir()]
    assert err.startswith("sj-lowlat (process 3): error: 4 processes were started, and each would do all")
    assert f"the work of {verb}: start one process" in err


@pytest.mark.parametrize("number", ["two", "0", "-1"])
def test_no_number_of_processes(
    number: str, run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", number)
    code, _, err = run("detect", "x")
    assert code == 2 and f"WORLD_SIZE is {number!r}: it is the number of processes" in err


def test_processes_that_do_not_find_each_other(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    code, _, err = run("evaluate", "--model", "x", "--data", "y")
    assert code == 2 and "WORLD_SIZE is 2, but the processes do not find each other" in err
    assert "torchrun --nproc-per-node N -m sj_lowlat" in err and not dist.is_initialized()
