"""Writes "what can be converted" from the package's own tables, when the documentation is built."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from sj_lowlat.conversion.spike import ACTIVATIONS, NEURONS, POINTWISE, activation_types
from sj_lowlat.graph.edit import AS_MODULES
from sj_lowlat.graph.operations import FUNCTIONS, MODULES, Operation
from sj_lowlat.models.darknet_layers import ACTIVATIONS as CFG_ACTIVATIONS
from sj_lowlat.models.darknet_options import KINDS, REFUSED

PAGE = Path(__file__).parent / "generated" / "convertible.rst"


def listed(names: Iterable[str]) -> str:
    """Names in code type, in the order of the alphabet."""
    return ", ".join(f"``{name}``" for name in sorted(set(names), key=str.lower))


def refused(rows: dict[Any, Operation], name: Any) -> list[str]:
    """A line for each remedy: what is refused, and what to do."""
    by_remedy: dict[str, list[str]] = {}
    for key, row in rows.items():
        if row.carries is False and key not in AS_MODULES:
            by_remedy.setdefault(row.remedy, []).append(name(key))
    return [f"* {listed(names)}: {remedy}." for remedy, names in by_remedy.items()]


def module_name(kind: type[nn.Module]) -> str:
    """As the page names a row of the table of modules."""
    return "any other module" if kind is nn.Module else kind.__name__.lstrip("_")


def page() -> str:
    """The tables as reStructuredText."""
    exact, others = ({kind.__name__ for kind in kinds} for kinds in (ACTIVATIONS, POINTWISE))
    kinds = [
        f'* ``neuron="{name}"``: {listed(kind.__name__ for kind in activation_types(name))}'
        for name in NEURONS
    ]
    passing = [kind.__name__ for kind, row in MODULES.items() if row.carries is not False]
    functions = [name for name, row in FUNCTIONS.items() if row.carries is not False]
    return "\n".join(
        [
            "Activations",
            "-----------",
            "",
            "Each becomes a layer of neurons:",
            "",
            *kinds,
            "",
            f"{listed(exact)} have neurons of their own. The others ({listed(others)}) are quantised as they",
            "are, with levels on both sides of 0; signed neurons settle to them exactly, monotone or not.",
            "One of your own takes part after",
            "``sj_lowlat.conversion.register_activation(MyFunction, pointwise=True)``.",
            "",
            "Between the layers",
            "------------------",
            "",
            f"Modules that spikes pass: {listed(passing)}.",
            "",
            f"Functions that become modules by themselves: {listed(AS_MODULES)}.",
            "",
            f"Functions that spikes pass (names of ATen): {listed(functions)}.",
            "",
            "Refused, and what to do",
            "-----------------------",
            "",
            *refused(MODULES, module_name),
            *refused(FUNCTIONS, str),
            "",
            "Darknet's cfgs",
            "--------------",
            "",
            f"Sections that are read: {listed(f'[{kind}]' for kind in KINDS)}.",
            "",
            f"Activations: {listed(('linear', *CFG_ACTIVATIONS))}.",
            "",
            "Refused by name:",
            "",
            *[
                f"* {listed(f'[{kind}]' for kind, why in REFUSED.items() if why == reason)}: {reason}."
                for reason in dict.fromkeys(REFUSED.values())
            ],
            "",
            "``[convolutional]`` with ``xnor=1`` is read, and refused by ``prepare``: its inputs are signs.",
            "Options that only matter in training are ignored, unknown ones refused.",
            "",
        ]
    )


def setup(app: Any) -> dict[str, bool]:
    """Write the page before a tutorial registers anything of its own, in this process."""

    def write(_app: Any, _config: Any) -> None:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(), encoding="utf-8")

    app.connect("config-inited", write)
    return {"parallel_read_safe": True}
