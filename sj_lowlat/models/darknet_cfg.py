"""Reader of darknet's network descriptions (.cfg)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sj_lowlat.errors import InputError

_N = TypeVar("_N", int, float)

_ALIASES = {"network": "net", "conv": "convolutional", "max": "maxpool"}

# Kind of layer -> options that change what it computes, supported with this value only.
_LAYERS: dict[str, dict[str, str]] = {
    "convolutional": {"binary": "0", "xnor": "0", "flipped": "0", "dilation": "1", "antialiasing": "0"},
    "maxpool": {"maxpool_depth": "0", "antialiasing": "0"},
    "route": {},
    "shortcut": {"weights_type": "none", "alpha": "1", "beta": "1"},
    "upsample": {"scale": "1"},
    "reorg": {"reverse": "0", "flatten": "0", "extra": "0"},
    "yolo": {},
    "dropout": {"dropblock": "0"},
    "avgpool": {},
    "scale_channels": {"scale_wh": "0", "activation": "linear"},
    "sam": {"activation": "linear"},
    "region": {"softmax": "1", "coords": "4", "background": "0", "tree": "", "map": ""},
}


@dataclass(frozen=True)
class Section:
    """One section of a cfg.

    :param kind: its name, such as ``convolutional``
    :param number: of the layer; the first after ``[net]`` is 0, ``[net]`` itself -1
    :param line: of the file, on which it starts, from 1
    :param options: key to text; of a key given twice the first counts, as in darknet
    """

    kind: str
    number: int
    line: int
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        layer = "" if self.number < 0 else f"layer {self.number}, "
        return f"section [{self.kind}] ({layer}line {self.line})"

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
            return tuple(kind(part) for part in text.split(",") if part.strip())
        except ValueError:
            what = "whole numbers" if kind is int else "numbers"
            raise self.error(f": option {key} must be {what} separated by commas; got {text!r}") from None


def read_cfg(cfg: str | Path) -> str:
    """The text of a cfg, given as that text (anything with a line break) or as the path of a file.

    :raises FileNotFoundError: if there is no such file
    :raises InputError: if the file is not text
    """
    if isinstance(cfg, str) and "\n" in cfg:
        return cfg
    path = Path(cfg)
    if not path.is_file():
        raise FileNotFoundError(f"no darknet cfg at {path}: give the path of a .cfg file, or its text")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text: is it a .weights file given as cfg?") from None


def parse_cfg(text: str) -> tuple[Section, ...]:
    """The sections of a cfg, ``[net]`` first.

    :param text: of the file; ``#`` and ``;`` start comments
    :raises InputError: if a line or section is not understood, or ``[net]`` is not the first
    """
    sections: list[Section] = []
    options: dict[str, str] = {}
    for line_number, raw in enumerate(text.splitlines(), 1):
        line = raw.split("#", 1)[0].split(";", 1)[0].strip()
        if not line:
            continue
        if line.startswith("["):
            name = line.strip("[]").strip().lower()
            options = {}
            sections.append(Section(_ALIASES.get(name, name), len(sections) - 1, line_number, options))
            continue
        key, equals, value = line.partition("=")
        if not equals or not sections:
            raise InputError(
                f"cfg line {line_number} is neither a [section] nor a key=value inside one: {raw.strip()!r}"
            )
        options.setdefault(key.strip(), "".join(value.split()))
    if len(sections) < 2 or sections[0].kind != "net":
        raise InputError(
            "a darknet cfg must start with a [net] section and have layers after it: is this a cfg file?"
        )
    for section in sections[1:]:
        if section.kind not in _LAYERS:
            raise section.error(f" is not supported: layers may be {', '.join(_LAYERS)}")
        for key, neutral in _LAYERS[section.kind].items():
            value = section.options.get(key, neutral)
            if not _same(value, neutral):
                raise section.error(f": option {key}={value} is not supported, only {key}={neutral}")
    return tuple(sections)


def _same(value: str, neutral: str) -> bool:
    try:
        return float(value) == float(neutral)
    except ValueError:
        return value == neutral
