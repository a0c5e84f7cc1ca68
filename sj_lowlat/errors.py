"""Errors that a user can act on, and how they are printed."""

from __future__ import annotations

from collections.abc import Iterable


class InputError(ValueError):
    """Input that the package cannot use; the message says what came, what is allowed and what to do next."""


#: what Python, numpy and torch raise where a file holds another value than the code that reads it expects
FOREIGN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)


class ConversionError(InputError):
    """A network (or a part of it) that cannot be converted into an equivalent spiking network.

    :param message: what cannot be done
    :param refused: the parts, one sentence each that names module, reason and remedy
    """

    def __init__(self, message: str, refused: Iterable[str] = ()) -> None:
        self.refused = tuple(refused)
        super().__init__("\n- ".join([f"{message}:" if self.refused else message, *self.refused]))


def printable(text: object) -> str:
    """Text for a terminal: control characters, which could command it, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
