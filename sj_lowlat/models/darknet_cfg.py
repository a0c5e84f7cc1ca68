"""Reader of darknet's network descriptions (.cfg)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sj_lowlat.errors import InputError
from sj_lowlat.files import read_text
from sj_lowlat.models.darknet_options import ALIASES, problem_with

_N = TypeVar("_N", int, float)
_LARGEST = 2**31 - 1  # as in darknet, whose numbers have 32 bits
_MOST_SECTIONS = 10_000


@dataclass(frozen=True)
class Section:
    """One section of a cfg.

    :param kind: its name, such as ``convolutional``
    :param number: of the layer; the first after ``[net]`` is 0, ``[net]`` itself -1
    :param line: of the file, on which it starts, from 1
    :param options: key to text; of a key given twice the first counts, as in darknet
    :param source: the file, for errors; empty where the cfg is no file
    """

    kind: str
    number: int
    line: int
    options: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

    def __str__(self) -> str:
        layer = "" if self.number < 0 else f"layer {self.number}, "
        place = f"{self.source}:{self.line}: " if self.source else ""
        return f"{place}section [{self.kind}] ({layer}line {self.line})"

    def error(self, problem: str) -> InputError:
        """The error that says what is wrong here: the section, followed by the problem."""
        return InputError(f"{self}{problem}")

    def integers(self, key: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """The comma-separated whole numbers of an option; ``default`` where it is absent.

        :raises InputError: if it is absent without a default, or not made of whole numbers
        """
        return self._numbers(key, default, int)

    def integer(self, key: str, default: int | None = None) -> int:
        """The whole number of an option, as :meth:`integers`."""
        numbers = self.integers(key, None if default is None else (default,))
        if len(numbers) != 1:
            raise self.error(f": option {key} must be one whole number; got {self.options[key]!r}")
        return numbers[0]

    def positive(self, key: str, default: int | None = None) -> int:
        """As :meth:`integer`, and 1 or more."""
        number = self.integer(key, default)
        if number < 1:
            raise self.error(f": option {key} must be 1 or more; got {number}")
        return number

    def floats(self, key: str, default: tuple[float, ...] | None = None) -> tuple[float, ...]:
        """The comma-separated numbers of an option, as :meth:`integers`."""
        return self._numbers(key, default, float)

    def _numbers(self, key: str, default: tuple[_N, ...] | None, kind: type[_N]) -> tuple[_N, ...]:
        text = self.options.get(key)
        if text is None:
            if default is None:
                raise self.error(f" lacks the option {key}: add a line '{key}=...'")
            return default
        try:
            numbers = tuple(kind(part) for part in text.split(",") if part.strip())
        except ValueError:
            numbers = None
        if numbers is None or any(abs(number) > _LARGEST for number in numbers):
            what = "whole numbers" if kind is int else "numbers"
            raise self.error(
                f": option {key} must be {what} separated by commas, at most {_LARGEST}; got {text!r:.100}"
            )
        return numbers


def read_cfg(cfg: str | Path) -> str:
    """The text of a cfg, given as that text (anything with a line break) or as the path of a file.

    :raises FileNotFoundError: if there is no such file
    :raises InputError: if the file is not text
    """
    if isinstance(cfg, str) and re.search(r"[\r\n]", cfg):
        return cfg
    path = Path(cfg)
    if not path.is_file():
        raise FileNotFoundError(f"no darknet cfg at {path}: give the path of a .cfg file, or its text")
    return read_text(path, "a .cfg file, not a .weights file")


def parse_cfg(text: str, source: str | Path = "") -> tuple[Section, ...]:
    """The sections of a cfg, ``[net]`` first.

    As in darknet, spaces and tabs do not count, and names are written in small letters (of sections, capitals
    are taken too). Options that only matter in training are ignored; others that are unknown are refused.

    :param text: of the file; ``#`` and ``;`` start comments
    :param source: the file, for errors
    :raises InputError: if a line or section is not understood, or ``[net]`` is not the first
    """
    sections: list[Section] = []
    options: dict[str, str] = {}
    for line_number, raw in enumerate(re.split("\r\n|\r|\n", text.removeprefix("\ufeff")), 1):
        line = "".join(re.split("[#;]", raw, maxsplit=1)[0].split())
        if not line:
            continue
        if line.startswith("["):
            name = line.strip("[]").lower()
            options = {}
            kind, number = ALIASES.get(name, name), len(sections) - 1
            sections.append(Section(kind, number, line_number, options, str(source)))
            continue
        key, equals, value = line.partition("=")
        if not equals or not sections:
            place = f"{source}:{line_number}" if source else f"cfg line {line_number}"
            raise InputError(f"{place} is neither a [section] nor a key=value inside one: {raw.strip()!r}")
        options.setdefault(key, value)
    if len(sections) > _MOST_SECTIONS:
        raise InputError(
            f"{source or 'a darknet cfg'} has {len(sections)} sections, at most {_MOST_SECTIONS} are read"
        )
    if len(sections) < 2 or sections[0].kind != "net":
        raise InputError(
            f"{source or 'a darknet cfg'} must start with a [net] section and have layers after it: "
            "is this a cfg file?"
        )
    for section in sections[1:]:
        problem = problem_with(section.kind, section.options)
        if problem:
            raise section.error(problem)
    return tuple(sections)
