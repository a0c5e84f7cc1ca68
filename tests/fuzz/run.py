"""Coverage-guided fuzzing of one reader, or of all, with atheris (libFuzzer).

usage: python tests/fuzz/run.py TARGET|all --executions N

Stops at the first input that raises an error that is not the package's own, and keeps it as
``failed-TARGET`` in the present folder; or that takes more than 20 s or 4 GiB, which libFuzzer keeps under a
name of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

_READERS = (
    "checkpoint",
    "checkpoint_v1",
    "class_names",
    "cli",
    "data",
    "files",
    "graph.rows",
    "models",
    "network",
    "pretrained",
    "schedule",
    "spike_camera",
    "training.journal",
    "zoo",
)
# torch takes most of the time, and none of the branches that matter
with atheris.instrument_imports(
    include=[f"sj_lowlat.{name}" for name in _READERS], enable_loader_override=False
):
    from targets import TARGETS, run

_LIMITS = ("-timeout=20", "-rss_limit_mb=4096", "-max_len=65536", "-print_final_stats=1", "-verbosity=0")


def fuzz(name: str, executions: int) -> None:
    """Run a target; ends the process."""
    target, folder = TARGETS[name], Path(tempfile.mkdtemp(prefix="fuzz-"))
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(target.seeds()):
        (corpus / str(number)).write_bytes(seed)
    (folder / "work").mkdir()

    def one(data: bytes) -> None:
        try:
            run(target, data, folder / "work")
        except BaseException:
            Path(f"failed-{name}").write_bytes(data)
            raise

    atheris.Setup([sys.argv[0], f"-runs={executions}", *_LIMITS, str(corpus)], one)
    atheris.Fuzz()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--executions", type=int, required=True)
    options = parser.parse_args()
    if options.target != "all":
        fuzz(options.target, options.executions)
    failed = []
    for name in TARGETS:
        words = [sys.executable, __file__, name, "--executions", str(options.executions)]
        done = subprocess.run(words, stderr=subprocess.PIPE, text=True)
        print(f"{name}: {'failed' if done.returncode else 'nothing found'}", flush=True)
        if done.returncode:
            failed.append(name)
            print(done.stderr[-3000:], flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
