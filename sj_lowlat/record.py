"""What all results share: how they were made, networks in eval mode while they are measured, text tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch import nn

from sj_lowlat.errors import printable
from sj_lowlat.version import __version__

_PACKAGES = ("torch", "torchvision", "spikingjelly")


def versions() -> dict[str, str]:
    """Versions of this package and of those that results depend on."""
    return {**{name: _version(name) for name in _PACKAGES}, "sj_lowlat": __version__}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # on the path, but not installed
        return "unknown"


def provenance(seed: int | None = None) -> dict[str, Any]:
    """Command, versions, and the seed unless it is ``None``, for the record of a result."""
    return {"command": sys.argv, "versions": versions(), **({} if seed is None else {"seed": seed})}


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Context manager: eval mode inside; on exit every module gets its own flag back (a frozen batch norm in
    a network under training stays frozen).
    """
    flags = [(module, module.training) for network in networks for module in network.modules()]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A text table of aligned columns.

    :param left: number of left-aligned columns; the others (numbers) are right-aligned
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(line[column]) for line in [head, *rows]) for column in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
