"""Log of a run: a JSON line every few steps, and TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sj_lowlat.files import atomic_write
from sj_lowlat.progress import writing

#: takes iteration, losses, learning rate and seconds
Write = Callable[[int, dict[str, float], float, float], None]


@contextmanager
def journal(output: Path | None, first: int) -> Iterator[Write]:
    """Context manager: a function that appends to ``log.jsonl``, at once on disk, and to TensorBoard.

    :param output: the folder, or None to write nothing
    :param first: steps already done: later lines of an earlier, interrupted part are dropped
    """
    if output is None:
        yield lambda *_: None
        return
    path = output / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if first and path.exists() else []
    whole = [line for line in lines if line.endswith("\n")]  # a crash may have cut off the last
    with writing(path), atomic_write(path) as temporary:
        kept = [line for line in whole if json.loads(line)["iteration"] <= first]
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


def _tensorboard(output: Path, first: int) -> AbstractContextManager[Any]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return nullcontext()  # the optional extra "train"
    return SummaryWriter(output, purge_step=first)
