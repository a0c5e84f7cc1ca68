"""Log of a run: a JSON line every few steps, and TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Protocol

from sj_lowlat.errors import FOREIGN
from sj_lowlat.files import atomic_write
from sj_lowlat.progress import writing


class Write(Protocol):
    """Takes iteration, losses, learning rate, seconds, and the score of a validation."""

    def __call__(
        self, iteration: int, losses: dict[str, float], lr: float, seconds: float, map50: float | None = None
    ) -> None: ...


@contextmanager
def journal(output: Path | None, first: int) -> Iterator[Write]:
    """Context manager: a function that appends to ``log.jsonl``, at once on disk, and to TensorBoard.

    :param output: the folder, or None to write nothing
    :param first: steps already done: later lines of an earlier, interrupted part are dropped, and what is no
        record (a crash may have cut off the last one, a power failure leaves zeros)
    """
    if output is None:
        yield lambda *_, **__: None
        return
    path = output / "log.jsonl"
    lines = path.read_bytes().decode("utf-8", "replace").split("\n")[:-1] if first and path.exists() else []
    with writing(path), atomic_write(path) as temporary:
        kept = [f"{line}\n" for line in lines if 0 <= _iteration(line) <= first]
        temporary.write_text("".join(kept), encoding="utf-8")

    with _tensorboard(output, first) as board:

        def write(
            iteration: int, losses: dict[str, float], lr: float, seconds: float, map50: float | None = None
        ) -> None:
            record = {"iteration": iteration, "losses": losses, "lr": lr, "seconds": round(seconds, 3)}
            scored = {} if map50 is None else {"map50": map50}
            with writing(path), path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record | scored) + "\n")
            if board:
                for name, value in (losses | {"lr": lr} | scored).items():
                    board.add_scalar(name, value, iteration)

        yield write


def curves(output: Path) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """``(iteration, total loss)`` and ``(iteration, mAP50)`` of all lines of a log."""
    losses, scores = [], []
    for line in (output / "log.jsonl").read_text(encoding="utf-8").splitlines():
        with suppress(*FOREIGN):
            record = json.loads(line)
            losses.append((int(record["iteration"]), float(record["losses"]["total"])))
            scores.append((int(record["iteration"]), float(record["map50"])))
    return losses, scores


def _iteration(line: str) -> float:
    """That of a line of the log; -1 for a line that is none."""
    try:
        return float(json.loads(line)["iteration"])
    except FOREIGN:
        return -1


def _tensorboard(output: Path, first: int) -> AbstractContextManager[Any]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return nullcontext()  # the optional extra "train"
    return SummaryWriter(output, purge_step=first)
