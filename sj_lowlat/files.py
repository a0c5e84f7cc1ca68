"""Files that are either whole or absent, and what is read from files of strangers."""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from sj_lowlat.errors import InputError

if sys.platform != "win32":
    import fcntl


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Context manager: a temporary path beside ``path``, renamed onto it if the block succeeds, else removed.
    The folder is created; temporary files that killed processes left there are removed.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_behind(target.parent.resolve())
    temporary, handle = _open_temporary(target)
    try:
        yield temporary
        with temporary.open("rb+") as file:  # the bytes are on the disk before the name is
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        if handle is not None:
            os.close(handle)
        temporary.unlink(missing_ok=True)


# not .tmp alone, which would be a suffix of somebody's own files
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.writing(\.[^.]+)?")


def _open_temporary(target: Path) -> tuple[Path, int | None]:
    """A new file, with the permissions of any new file, and the handle by which it is locked."""
    while True:
        # of a long name the start, or this one would be too long
        path = target.with_name(f".{target.stem[:50]}.{secrets.token_hex(4)}.writing{target.suffix}")
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if sys.platform == "win32":  # which renames no open file
            os.close(handle)
            return path, None
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return path, handle
        os.close(handle)  # another process has taken it for left behind


@cache
def _remove_left_behind(folder: Path) -> None:
    """Once per process: listing a large folder for each of its files would take long."""
    if sys.platform == "win32":
        return
    with suppress(OSError):  # a folder that cannot be listed
        for path in filter(lambda path: _TEMPORARY.fullmatch(path.name), folder.iterdir()):
            with suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its writer lives
                path.unlink()


def write_json(path: str | Path, record: Any) -> None:
    """Write ``record`` as indented JSON, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_text(path: str | Path, what: str) -> str:
    """The text of a file that any editor wrote: in UTF-8, UTF-16 with a byte order mark, or the Western code
    pages of 8 bits; every line end (also a lone CR) becomes ``\\n``.

    :param what: the file should be, for the error
    :raises InputError: if it is not text
    """
    data = Path(path).read_bytes()
    utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if utf16 else ("utf-8-sig", "cp1252", "latin-1"):
        try:
            text = data.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    else:
        raise InputError(f"{path} starts as UTF-16 and is not: give {what}, saved as UTF-8")
    if "\0" in text:
        raise InputError(
            f"{path} is not text (it holds zero bytes): give {what}; "
            "if it is one in UTF-16 without a byte order mark, save it as UTF-8"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: str | Path, what: str) -> Any:
    """What a JSON file holds.

    :param what: the file should be, for errors
    :raises FileNotFoundError: if there is no such file
    :raises InputError: if it is not JSON, or holds what :func:`parse_json` refuses
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}: give {what}")
    return parse_json(path.read_bytes(), str(path), what)


def parse_json(text: str | bytes, source: str, what: str) -> Any:
    """What a JSON text holds.

    :param text: bytes are UTF-8
    :param source: where it comes from, for errors
    :param what: the source should be, for errors
    :raises InputError: if it is not JSON, or holds a key twice in one object, a whole number of more than 64
        bits, or too many brackets inside each other
    """
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        return json.loads(text, parse_int=_int64, object_pairs_hook=_unique)
    except RecursionError:
        raise InputError(f"{source} is damaged or no JSON (nested too deeply): give {what}") from None
    except ValueError as error:
        raise InputError(f"{source} is damaged or no JSON ({error}): give {what}") from error


def _int64(text: str) -> int:
    number = int(text) if len(text) < 21 else 2**63
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"the number {text[:20]}... has more than 64 bits")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the key {twice!r} twice")
    return found


def inside(folder: Path, name: str, source: str | Path) -> Path:
    """The file ``name`` in a folder.

    :param source: the file that gives the name, for errors
    :raises InputError: for a name that leaves the folder
    """
    path = os.path.normpath(name)  # a `..` behind a link would leave it
    if os.path.isabs(path) or Path(path).parts[:1] == ("..",):
        raise InputError(
            f"{source} names the file {name!r}, which is not in {folder}: files must lie in that folder; "
            "give the folder above all of them, and names relative to it"
        )
    return folder / path
