"""The C library's memory: freed tensors may stay with the process instead of going back to the system."""

from __future__ import annotations

import ctypes
import platform
from functools import cache

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt, malloc.h of glibc
_kept = False


@cache
def keep_freed_memory() -> bool:
    """Let freed memory stay with this process, for the next tensor of its size.

    By default glibc gives blocks beyond 32 MiB back to the system and asks for them anew, page by page,
    which takes longer than what many layers do with them. Simulations then run more steps in a pass. The
    most memory that the process needs at a time stays with it to its end. ``sj-lowlat`` does it; a program
    that simulates much may do so at its start. It is mallopt(3) with ``M_MMAP_MAX`` 0 and
    ``M_TRIM_THRESHOLD`` 2\\ :sup:`31` - 1.

    :return: whether it was possible: on Linux with glibc
    """
    global _kept
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        _kept = bool(library.mallopt(_MMAP_MAX, 0) and library.mallopt(_TRIM_THRESHOLD, 2**31 - 1))
    return _kept


def is_kept() -> bool:
    """Whether :func:`keep_freed_memory` was called, with success."""
    return _kept
