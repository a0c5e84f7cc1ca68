"""Writes the table of methods from the package's own records, when the documentation is built."""

from __future__ import annotations

from pathlib import Path

from sj_lowlat.conversion import METHODS, Method

PAGE = Path(__file__).parent / "generated" / "methods.rst"


def scale_of(method: Method) -> str:
    """Where the scales come from, in words."""
    if not isinstance(method.scale, str):
        return "of its own"
    return "trained clips" if method.scale == "trained" else f"{method.scale} of activations"


def page() -> str:
    """The table as reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 14 10 12 10 54", ""]
    for name, method in [(None, None), *METHODS.items()]:
        if name is None or method is None:
            cells = ["method", "neuron", "scales", "trains", "source"]
        else:
            trains = "yes" if method.trains else "no"
            source = f"\\{method.source}"  # else an initial begins a list
            cells = [f"``{name}``", f"``{method.neuron}``", scale_of(method), trains, source]
        lines += [f"   {'* -' if i == 0 else '  -'} {cell}" for i, cell in enumerate(cells)]
    return "\n".join(lines) + "\n"


def setup(app: object) -> dict[str, bool]:
    """Called by Sphinx before it reads the pages."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    return {"parallel_read_safe": True}
