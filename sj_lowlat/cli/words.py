"""Files from the words after ``sj-lowlat detect``: patterns, folders, standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from glob import glob, has_magic
from pathlib import Path
from tempfile import TemporaryDirectory

from sj_lowlat.cli.pictures import find_pictures
from sj_lowlat.errors import InputError
from sj_lowlat.files import read_json


def find_inputs(words: Sequence[str], stack: ExitStack) -> tuple[list[tuple[Path, Path]], dict[Path, str]]:
    """The files that words name.

    :param words: files, folders, patterns (where a shell has not resolved them), ``-`` for standard input
    :param stack: closes what is open until the end
    :return: (file, name of its result) as of :func:`find_pictures`, and how to call files that have another
        name for the user
    :raises FileNotFoundError: if nothing is there
    :raises InputError: for an address on the web
    """
    paths, shown = [], {}
    for word in words:
        if word == "-":
            folder = stack.enter_context(TemporaryDirectory())
            file = Path(folder) / "stdin.png"  # the reader looks at the content
            file.write_bytes(sys.stdin.buffer.read())
            shown[file] = "-"
            paths.append(file)
        elif "://" in word:
            raise InputError(
                f"{word} is an address: download it, or pipe it as in curl ... | sj-lowlat detect -"
            )
        elif has_magic(word) and not Path(word).exists():
            found = sorted(glob(word, recursive=True))
            if not found:
                raise FileNotFoundError(f"nothing is named like {word}: check the pattern")
            paths += map(Path, found)
        else:
            paths.append(Path(word))
    return find_pictures(paths), shown


def other_results(folder: Path, names: Sequence[Path]) -> str:
    """A remark on drawn pictures of an earlier run that will stand beside those of this one, or nothing."""
    before: list[Path] = []
    with suppress(InputError, OSError, KeyError, TypeError, AttributeError):
        record = read_json(folder / "detections.json", "detections")
        before = [
            Path(answer["drawn"])
            for answer in (*record["images"], *record["streams"], *record.get("videos", ()))
        ]
    left = [name for name in {*before} - {*names} if (folder / name).is_file()]
    kind = "picture" if len(left) == 1 else "pictures"
    return f"{folder} also holds {len(left)} drawn {kind} of an earlier run" if left else ""
