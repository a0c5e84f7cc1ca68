"""Ctrl-C and SIGTERM between two steps of a training, when its state is whole."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self


class StopAfterStep:
    """Context manager: a first SIGINT or SIGTERM is noted in ``came``, and acts when the block ends; a second
    one acts at once. Signals are left alone in threads, which get none, and where they are ignored.
    """

    def __init__(self) -> None:
        self.came: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
            self._before = {n: h for n, h in handlers.items() if h not in (signal.SIG_IGN, None)}
            for number in self._before:
                signal.signal(number, self._note)
        return self

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.came = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._restore()
        if self.came is not None and kind is None:
            signal.raise_signal(self.came)
