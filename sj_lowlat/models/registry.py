"""Table of model builders, by name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import torch
from torch import nn

from sj_lowlat.errors import InputError

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])

BUILDERS: dict[str, Callable[..., nn.Module]] = {}
"""Name -> builder; extended by :func:`register`."""

_FILES = ("cfg", "weights")  # arguments of builders that may name files


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


def build(build_config: Mapping[str, Any], most: int | None = None) -> nn.Module:
    """The detector that a ``build_config`` describes: same structure, fresh weights.

    :param build_config: ``{"builder": name, "kwargs": {...}}``; it names no files
    :param most: values that the detector may have; checked before it takes their memory
    :raises InputError: if it is of another form, names a file or what does not exist, or would be larger
    """
    match build_config:
        case {"builder": str(name), "kwargs": Mapping() as kwargs}:
            named = [key for key in _FILES if _names_file(kwargs.get(key))]
            if named:
                raise InputError(
                    f"a build_config names the file {named[0]}={kwargs[named[0]]!r:.80}: it holds the cfg's "
                    "text and no weights; write it again with sj_lowlat.save"
                )
            if most is not None and (size := _values(name, kwargs)) > most:
                raise InputError(f"the network would hold {size} values, its file holds other ones")
            return create(name, **kwargs)
    raise InputError(f'a build_config must be {{"builder": name, "kwargs": {{...}}}}; got {build_config!r}')


def _names_file(value: Any) -> bool:
    return value is not None and not (isinstance(value, str) and re.search(r"[\r\n]", value))


def _values(name: str, kwargs: Mapping[str, Any]) -> int:
    """How many values a detector has, which takes no memory; 0 if its builder looks at values."""
    with torch.device("meta"), suppress(RuntimeError):
        return sum(value.numel() for value in create(name, **kwargs).state_dict().values())
    return 0
