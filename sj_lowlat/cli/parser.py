"""Options from a verb's signature and docstring."""

from __future__ import annotations

import re
from argparse import SUPPRESS, Action, RawDescriptionHelpFormatter
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from docstring_parser import parse
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from sj_lowlat.cli.suggest import in_options, suggestion
from sj_lowlat.errors import printable

SHORT = {"--model": "-m", "--output": "-o", "--data": "-d", "--schedule": "-s", "--quiet": "-q",
         "--version": "-V"}  # fmt: skip
_KINDS = {int: "N", float: "X"}


class _Formatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Shows defaults, but no types of Python; keeps the line breaks of examples."""

    def _get_help_string(self, action: Action) -> str:
        text = action.help or ""
        if action.dest in ("help", "version"):
            return f"show {'this help' if action.dest == 'help' else 'the version'}"
        if action.required and action.option_strings:
            return f"{text} (required)"
        plain = action.default in (None, SUPPRESS, False) or not action.option_strings
        return text if plain or "by default" in text else f"{text} (default: %(default)s)"

    def _format_action(self, action: Action) -> str:
        text = super()._format_action(action)
        return text.partition("Available subcommands:\n")[2] or text  # jsonargparse's own heading

    def _get_default_metavar_for_optional(self, action: Action) -> str:
        hint = getattr(action, "_typehint", None)
        words = [_KINDS[kind] for kind in (hint, *get_args(hint)) if kind in _KINDS]
        if values := choices(action):
            return f"{{{','.join(words + values)}}}"
        return words[0] if words else super()._get_default_metavar_for_optional(action)


class VerbParser(ArgumentParser):
    """A parser with hyphens in its options, switches for ``bool``, and short errors."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Formatter, allow_abbrev=False, **options)
        self.chosen: VerbParser | None = None
        """The parser of the verb that the command names."""

    def add_argument(self, *names: str, **options: Any) -> Any:
        """Add an option as jsonargparse does, with the changes that the class names."""
        if options.get("type") is bool:
            del options["type"]
            options["action"] = "store_true"
        if options.get("help"):
            options["help"] = _plain(options["help"])
        # jsonargparse looks for its own --print_... by that name
        renamed = [name if name.startswith("--print_") else name.replace("_", "-") for name in names]
        return super().add_argument(*(SHORT[n] for n in renamed if n in SHORT), *renamed, **options)

    def options(self) -> list[str]:
        """All options, as they are typed."""
        return [word for action in self._actions for word in action.option_strings]

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong and exit with code 2."""
        verb = self.chosen or self
        if message.startswith("the following arguments are required"):
            message = re.sub(r"\b(\w+)\.(\w+)", lambda name: self._as_typed(name[2]), message)
        message = re.sub(r'Parser key "(?:\w+\.)?(\w+)":\s*', lambda n: f"{self._as_typed(n[1])}: ", message)
        message = re.sub(r"Expected a <class '(\w+)'>", r"a value of type \1 is wanted", message)
        message = in_options(message + suggestion(message, verb.options()), verb.options())
        message = "\n".join(map(printable, message.split("\n")))
        self.exit(2, f"sj-lowlat: error: {message}\n{verb.prog} --help tells more\n")

    def _as_typed(self, name: str) -> str:
        """``output`` -> ``--output``; ``images``, which has no option, as it is."""
        option = f"--{name.replace('_', '-')}"
        return option if option in (self.chosen or self).options() else name


def choices(action: Action) -> list[str]:
    """The values that an option can have, if it is one of a few."""
    kind = getattr(action, "_typehint", None)
    found = [one for part in (kind, *get_args(kind)) if get_origin(part) is Literal for one in get_args(part)]
    return list(map(str, action.choices or found))


def fill(parser: VerbParser, verb: Callable[..., int | None]) -> Callable[[Namespace], int | None]:
    """Give a parser the options that a verb takes.

    A parameter whose type is a dataclass becomes a group with one option per field, under the first line of
    the dataclass's docstring; a ``list`` becomes a positional argument of one or more values. The long
    description of the docstring is the end of the help.

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
        title = _plain(parse(group.__doc__ or "").short_description or "").rstrip(".")
        _move(parser, {field.name for field in fields(group)}, title)
    parser.epilog = _plain(doc.long_description or "")
    needed = [f"{action.option_strings[-1]} ..." for action in parser._actions if action.required
              and action.option_strings]  # fmt: skip
    parser.usage = " ".join(["%(prog)s", *(f"{name} [{name} ...]" for name in lists), *needed, "[options]"])

    def call(options: Namespace) -> int | None:
        values = {name: value for name, value in options.as_dict().items() if name in hints}
        for name, group in groups.items():
            values[name] = group(**{field.name: options[field.name] for field in fields(group)})
        return verb(**values)

    return call


def _move(parser: VerbParser, names: set[str], title: str) -> None:
    """Show options under a title of their own; jsonargparse's groups know nothing of this class."""
    group = parser.add_argument_group(title)
    for action in [action for action in parser._actions if action.dest in names]:
        parser._optionals._group_actions.remove(action)
        group._group_actions.append(action)


def _plain(text: str) -> str:
    """Docstring markup -> plain text."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?([^`]+)`", r"\1", text)
    return text.replace("::\n", ":\n").replace("``", "")
