"""Logs of a run: a JSON line every few steps, TensorBoard, and a record at the end."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from sj_lowlat.files import atomic_write, write_json
from sj_lowlat.record import provenance
from sj_lowlat.training.config import FinetuneConfig


class Journal:
    """Lines of ``log.jsonl`` and TensorBoard scalars; a context manager.

    :param output: the folder, or None to write nothing
    :param first: steps already done: later lines of an earlier, interrupted part are dropped
    """

    def __init__(self, output: Path | None, first: int) -> None:
        self.path = output / "log.jsonl" if output else None
        self.board = _tensorboard(output, first) if output else None
        if self.path:
            kept = (
                [line for line in _lines(self.path) if json.loads(line)["iteration"] <= first]
                if first
                else []
            )
            with atomic_write(self.path) as temporary:
                temporary.write_text("".join(kept), encoding="utf-8")

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.board:
            self.board.close()

    def write(self, iteration: int, losses: dict[str, float], lr: float, seconds: float) -> None:
        """Append one line; it is on disk when this returns."""
        if self.path is None:
            return
        record = {"iteration": iteration, "losses": losses, "lr": lr, "seconds": round(seconds, 3)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self.board:
            for name, value in (losses | {"lr": lr}).items():
                self.board.add_scalar(name, value, iteration)


def write_summary(path: Path, config: FinetuneConfig, seconds: float, losses: dict[str, float]) -> None:
    """Write the record: what is needed to run it again, and how it ended."""
    record = {
        "config": config.to_json(),
        **provenance(config.seed),
        "seconds": round(seconds, 3),
        "losses": losses,
    }
    write_json(path, record)


def _lines(path: Path) -> list[str]:
    """Whole lines of a log; one cut off by a crash is left out."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _tensorboard(output: Path, first: int) -> Any | None:
    try:
        module = import_module("torch.utils.tensorboard")
    except ImportError:
        return None  # the optional extra "train"
    return module.SummaryWriter(output, purge_step=first)
