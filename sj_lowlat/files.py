"""Files that are either whole or absent."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sj_lowlat.errors import InputError


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Context manager: a temporary path beside ``path``, renamed onto it if the block succeeds, else removed.
    The folder is created.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; give results the permissions any new file would have
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


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
