"""Log of a run: a JSON line every few steps, and TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sj_lowlat.errors import FOREIGN
from sj_lowlat.files import atomic_write
from sj_lowlat.progress import writing

#: takes iteration, losses, learning rate and seconds
Write = Callable[[int, dict[str, float], float, float], None]


@contextmanager
def journal(output: Path | None, first: int) -> Iterator[Write]:
    """Context manager: a function that appends to ``log.jsonl``, at once on disk, and to TensorBoard.

    :param output: the folder, or None to write nothing
    :param first: steps already done: later lines of an earlier, interrupted part are dropped, and what is no
        record (a crash may have cut off the last one, a power failure leaves zeros)
    """
    if output is None:
        yield lambda *_: None
        return
    path = output / "log.jsonl"
    lines = path.read_bytes().decode("utf-8", "replace").split("\n")[:-1] if first and path.exists() else []
    with writing(path), atomic_write(path) as temporary:
        kept = [f"{line}\n" for line in lines if 0 <= _iteration(line) <= first]
        temporary.write_text("".join(kept), encoding="utf-8")

    with _tensorboard(output, first) as board:

        def write(iteration: int, losses: dict[str, float], lr: float, seconds: float) -> None:
            record = {"iteration": iteration, "losses": losses, "lr": lr, "seconds": round(seconds, 3)}
            with writing(path), path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            if board:
                for name, value in (losses | {"lr": lr}).items():
                    board.add_scalar(name, value, iteration)

        yield write


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
