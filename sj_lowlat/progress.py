"""Runs that may be interrupted: one at a time in a folder, going on from what is on the disk."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sj_lowlat.errors import InputError


@contextmanager
def one_run(folder: Path, name: str = "") -> Iterator[None]:
    """Context manager: no other run can enter it for the same place; this one may do so again.

    :param folder: is made
    :param name: of a file in it, where the place is not the whole folder
    :raises InputError: if another run is in it
    :raises OSError: if nothing can be written there; that of a full disk names the place
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock_file = folder / f"{name and '.'}{name}.lock"
    lock = FileLock(lock_file, timeout=0, is_singleton=True)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"another run writes to {folder / name}: wait until it has ended, or give another output"
        ) from None
    try:
        yield
    except OSError as error:
        _name(error, folder / name)
        raise
    finally:
        if lock.lock_counter == 1:
            with suppress(OSError):  # it is gone with its folder, or open, on Windows
                lock_file.unlink()
                if made:
                    folder.rmdir()  # if it is empty: the run has failed
        lock.release()


@contextmanager
def writing(path: Path, *foreign: type[Exception]) -> Iterator[None]:
    """Context manager: errors in it become OSErrors that name the file.

    :param path: what is written
    :param foreign: errors by which libraries tell of a disk that takes no more
    :raises OSError: for what came instead
    """
    try:
        yield
    except FileNotFoundError as error:
        raise OSError(
            f"cannot write {path}: its folder is gone, removed or with its drive; give the same command again"
        ) from error
    except OSError as error:
        _name(error, path)
        raise
    except foreign as error:
        raise OSError(f"cannot write {path} ({error}): is its disk full?") from error


def is_full(error: Exception) -> bool:
    """Whether a disk takes no more."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _name(error: OSError, path: Path) -> None:
    if is_full(error) and error.filename is None:
        error.filename = str(path)


class Progress:
    """Records of work that is done, in a file with one JSON a line, from which the same request goes on.

    :param path: the file, which is made for the first record; None: nothing is kept
    :param request: what the work is, in types of JSON: all that the records depend on
    :raises InputError: if the file holds the records of another request, or is something else
    :raises OSError: if it cannot be read or written
    """

    def __init__(self, path: Path | None, request: Mapping[str, Any]) -> None:
        self.path = path
        self.records: list[dict[str, Any]] = []
        self._header = json.dumps({"request": request}).encode() + b"\n"
        self._begun = False
        if path is None or not path.exists():
            return
        data = path.read_bytes()
        first, *lines = data.split(b"\n")[:-1] or [b""]  # what follows the last line break was cut off
        length = len(first) + 1
        for line in lines:
            try:
                self.records.append(dict(json.loads(line)))
            except (ValueError, TypeError, RecursionError):  # the power failed
                break
            length += len(line) + 1
        if first:
            _check(path, first, json.loads(self._header)["request"], begun=bool(self.records))
        elif not self._header.startswith(data):
            raise InputError(_FOREIGN.format(path))
        self._begun = bool(self.records)
        if self._begun:
            with writing(path), path.open("r+b") as file:
                file.truncate(length)

    def add(self, record: Mapping[str, Any]) -> None:
        """Append a record, at once on the disk.

        :raises OSError: if it cannot be written; those before it are safe
        """
        if self.path is None:
            return
        line = json.dumps(record).encode() + b"\n"
        with writing(self.path), self.path.open("r+b" if self._begun else "wb") as file:
            file.seek(0, 2)
            file.write(line if self._begun else self._header + line)
        self._begun = True


_FOREIGN = "{} is no record of this command: remove it, or give another output"


def _check(path: Path, header: bytes, request: dict[str, Any], *, begun: bool) -> None:
    try:
        before = dict(json.loads(header)["request"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise InputError(_FOREIGN.format(path)) from None
    for name in {**before, **request} if begun else ():
        if before.get(name) != request.get(name):
            raise InputError(
                f"{path} is of an unfinished run whose {name} was {before.get(name)!r}, now it is"
                f" {request.get(name)!r}: give the same command to go on, another output, or remove the file"
            )
