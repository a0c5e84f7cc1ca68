"""Compiled kernels on disk: loaded are only those that this user wrote, and only whole."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# far longer than a compiler may take
_DEAD_AFTER_SECONDS = 3600


def folder() -> Path:
    """The folder for compiled kernels, below ``XDG_CACHE_HOME`` or ``~/.cache``; made where it is absent.

    :raises OSError: if there is none, or somebody else can put files there
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # to be ignored, say the XDG rules
        base = Path(os.path.expanduser("~"), ".cache")
    if not base.is_absolute():
        raise OSError("this user has no home folder")
    place = base / "sj_lowlat" / "kernels"
    for part in (base, place.parent, place):  # with parents=True these would not be private
        part.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = place.resolve()
    _refuse_shared(place)
    return place


def _refuse_shared(place: Path) -> None:
    """Refuse a folder of somebody else, and one that somebody else could exchange for theirs."""
    if not hasattr(os, "geteuid"):
        return
    me = os.geteuid()
    for part in (place, *place.parents):
        about = part.stat()
        if about.st_uid not in ((me,) if part == place else (me, 0)):
            raise PermissionError(f"{part} belongs to another user")
        # in a sticky folder (/tmp) only their owners exchange files
        if about.st_mode & 0o022 and (part == place or not about.st_mode & stat.S_ISVTX):
            raise PermissionError(f"others may write to {part} (chmod go-w would forbid it)")


def kept(place: Path, key: str) -> Iterator[Path]:
    """The whole libraries of a key; damaged ones are removed."""
    for path in sorted(place.glob(f"{key}-*.so")):
        if _mine(path) and path.name == _name(key, path):
            yield path
        else:
            path.unlink()


def keep(place: Path, key: str, make: Callable[[Path], Path]) -> Path:
    """Put what ``make`` makes in the folder that it gets into the cache, on disk before it has its name."""
    for left in place.glob("work-*"):  # by a process that was killed
        if time.time() - left.stat().st_mtime > _DEAD_AFTER_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="work-", dir=place) as work:
        made = make(Path(work))
        made.chmod(0o700)
        with made.open("rb+") as file:
            os.fsync(file.fileno())
        return made.replace(place / _name(key, made))


def _mine(path: Path) -> bool:
    about = path.lstat()
    foreign = hasattr(os, "geteuid") and (about.st_uid != os.geteuid() or about.st_mode & 0o022)
    return stat.S_ISREG(about.st_mode) and not foreign


def _name(key: str, library: Path) -> str:
    """The name holds a hash of the bytes, which tells a library that was cut off or damaged."""
    return f"{key}-{hashlib.sha256(library.read_bytes()).hexdigest()[:32]}.so"
