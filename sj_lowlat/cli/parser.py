"""Options from a verb's signature and docstring."""

from __future__ import annotations

import re
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from docstring_parser import parse
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from sj_lowlat.errors import printable


class _Formatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Shows types and defaults of every option; keeps the line breaks of examples."""


class VerbParser(ArgumentParser):
    """A parser with hyphens in its options, switches for ``bool``, and short errors."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Formatter, **options)

    def add_argument(self, *names: str, **options: Any) -> Any:
        """Add an option as jsonargparse does, with the changes that the class names."""
        if options.get("type") is bool:
            del options["type"]
            options["action"] = "store_true"
        if options.get("help"):
            options["help"] = _plain(options["help"])
        # jsonargparse looks for its own --print_... by that name
        renamed = [name if name.startswith("--print_") else name.replace("_", "-") for name in names]
        return super().add_argument(*renamed, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong and exit with code 2."""
        if message.startswith("the following arguments are required"):
            message = re.sub(r"\b(\w+)\.(\w+)", self._as_typed, message)
        message = "\n".join(map(printable, message.split("\n")))
        self.exit(2, f"sj-lowlat: error: {message}\n{self.prog} --help tells more\n")

    def _as_typed(self, name: re.Match[str]) -> str:
        """``convert.output`` -> ``--output``; ``detect.images`` -> ``images``, which has no option."""
        verbs = next(action.choices for action in self._actions if isinstance(action.choices, dict))
        options = {word for action in verbs[name[1]]._actions for word in action.option_strings}
        return f"--{name[2]}" if f"--{name[2]}" in options else name[2]


def fill(parser: VerbParser, verb: Callable[..., int | None]) -> Callable[[Namespace], int | None]:
    """Give a parser the options that a verb takes.

    A parameter whose type is a dataclass becomes one option per field; a ``list`` becomes a positional
    argument of one or more values. The long description of the docstring is the end of the help.

    :return: a function that calls the verb with what was parsed
    """
    doc, hints = parse(verb.__doc__ or ""), get_type_hints(verb)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    lists = {name: get_args(hint)[0] for name, hint in hints.items() if get_origin(hint) is list}
    texts = {entry.arg_name: entry.description for entry in doc.params}
    for name, kind in lists.items():
        parser.add_argument(name, nargs="+", type=kind, help=texts.get(name))
    parser.add_function_arguments(verb, as_group=False, skip={*groups, *lists})
    for group in groups.values():
        parser.add_class_arguments(group, as_group=False)
    parser.epilog = _plain(doc.long_description or "")

    def call(options: Namespace) -> int | None:
        values = {name: value for name, value in options.as_dict().items() if name in hints}
        for name, group in groups.items():
            values[name] = group(**{field.name: options[field.name] for field in fields(group)})
        return verb(**values)

    return call


def _plain(text: str) -> str:
    """Docstring markup -> plain text."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?([^`]+)`", r"\1", text)
    return text.replace("::\n", ":\n").replace("``", "")
