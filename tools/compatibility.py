"""Build the package, install it into empty environments, and try it there: each Python with the newest torch
that pip may take, and the oldest Python with the lowest version of every requirement in setup.cfg.

    python tools/compatibility.py                                # make compatibility
    UV_TORCH_BACKEND=cpu python tools/compatibility.py           # smaller: torch without CUDA
    python tools/compatibility.py --python 3.13 --resolution highest

Needs the extra ``dev``. An interpreter that is neither found nor can be fetched by uv is skipped, with the
reason. Environments lie in the folder for temporary files and are removed one by one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from configparser import ConfigParser
from pathlib import Path

from sj_lowlat.record import table

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# names of uv: the lowest versions that setup.cfg allows, the newest ones
RESOLUTIONS = ("lowest-direct", "highest")
HEAD = ("Python", "resolution", "torch", "torchvision", "spikingjelly", "numpy", "result")


class Failure(Exception):
    """What a command said."""


def run(words: Sequence[str | Path], cwd: Path = ROOT) -> str:
    """The standard output of a command.

    :raises Failure: if it fails; with the line that says why
    """
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise Failure(next((line for line in lines if line.startswith("error")), lines[-1]))
    return done.stdout


def build(folder: Path) -> Path:
    """The wheel, built from the source distribution as pip does it; both are checked."""
    run([sys.executable, "-m", "build", "--outdir", folder, ROOT])
    print(run([sys.executable, "-m", "twine", "check", "--strict", *sorted(folder.iterdir())]).strip())
    (wheel,) = folder.glob("*.whl")
    return wheel


def requirements() -> list[str]:
    """Those of setup.cfg; to uv only what it is told itself is direct, not what the wheel asks for."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config["options"]["install_requires"].split()


def attempt(wheel: Path, python: str, resolution: str) -> list[str]:
    """A row of the table."""
    uv, row = [sys.executable, "-m", "uv"], [python, resolution]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # macOS and Linux: bin, Windows: Scripts
        own = folder / "env" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        try:
            run([*uv, "venv", "--python", python, folder / "env"])
        except Failure as reason:
            return [*row, "", "", "", "", f"skipped: {reason}"]
        try:
            # all that is wanted is compiled already
            options = ["--resolution", resolution, "--only-binary", ":all:"]
            run([*uv, "pip", "install", "--python", own, *options, *requirements(), wheel])
            empty = folder / "empty"
            empty.mkdir()
            # -I: no PYTHONPATH, which could lead to the sources
            found = json.loads(run([own, "-I", ROOT / "tools" / "smoke.py"], empty).splitlines()[-1])
        except Failure as reason:
            return [*row, "", "", "", "", f"failed: {reason}"]
    return [found["python"], resolution, *(found[package] for package in HEAD[2:-1]), "works"]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; the exit code is 1 if something failed, skipped rows apart."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--python", nargs="+", choices=PYTHONS, help="default: all, the lowest versions on 3.11"
    )
    parser.add_argument("--resolution", nargs="+", choices=RESOLUTIONS, help="of the Pythons that are given")
    args = parser.parse_args(argv)
    pairs = [(python, how) for python in args.python or PYTHONS for how in args.resolution or RESOLUTIONS]
    if not (args.python or args.resolution):
        pairs = [("3.11", "lowest-direct"), *((python, "highest") for python in PYTHONS)]
    with tempfile.TemporaryDirectory() as dist:
        wheel = build(Path(dist))
        rows = []
        for python, resolution in pairs:
            rows.append(attempt(wheel, python, resolution))
            print(*rows[-1], flush=True)
    print("\n" + table(HEAD, rows, left=len(HEAD)))
    return int(any(row[-1].startswith("failed") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
