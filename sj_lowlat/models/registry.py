"""Table of model builders, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

from sj_lowlat.errors import InputError

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])

BUILDERS: dict[str, Callable[..., nn.Module]] = {}
"""Name -> builder; extended by :func:`register`."""


def register(builder: Builder) -> Builder:
    """Decorator that enters a builder in the table under its own name.

    Whatever it returns should carry ``build_config = {"builder": name, "kwargs": {...}}``, so that
    :func:`build` makes the same structure again.

    :raises InputError: if another builder has that name already
    """
    name = builder.__name__
    present = BUILDERS.get(name, builder)
    if (present.__module__, present.__qualname__) != (builder.__module__, builder.__qualname__):
        raise InputError(
            f"a model builder named {name!r} exists already ({present.__module__}): choose another name"
        )
    BUILDERS[name] = builder
    return builder


def create(name: str, **kwargs: Any) -> nn.Module:
    """The detector that the builder called ``name`` makes.

    :raises InputError: if there is no such builder, or it does not take these arguments
    """
    builder = BUILDERS.get(name)
    if builder is None:
        raise InputError(f"no model builder named {name!r}: there are {', '.join(sorted(BUILDERS))}")
    try:
        inspect.signature(builder).bind(**kwargs)
    except TypeError as error:
        raise InputError(f"model builder {name!r} takes {inspect.signature(builder)}: {error}") from None
    return builder(**kwargs)


def build(build_config: Mapping[str, Any]) -> nn.Module:
    """The detector that a ``build_config`` describes: same structure, fresh weights.

    :param build_config: ``{"builder": name, "kwargs": {...}}``
    :raises InputError: if it is of another form or names what does not exist
    """
    match build_config:
        case {"builder": str(name), "kwargs": Mapping() as kwargs}:
            return create(name, **kwargs)
    raise InputError(f'a build_config must be {{"builder": name, "kwargs": {{...}}}}; got {build_config!r}')
