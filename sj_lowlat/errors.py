"""Errors that a user can act on."""


class InputError(ValueError):
    """Input that the package cannot use; the message says what came, what is allowed and what to do next."""


class ConversionError(InputError):
    """A network (or a part of it) that cannot be converted into an equivalent spiking network."""
