"""Figures in notebooks."""

from __future__ import annotations

import ast
import io
import pickle
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

from sj_lowlat.plots import plot_rates
from sj_lowlat.plots.style import new_figure

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"


def test_shows_itself_without_pyplot() -> None:
    figure = plot_rates({"rate": {"a": 0.5, "b": 0.25}})
    picture = Image.open(io.BytesIO(figure._repr_png_()))
    assert picture.format == "PNG" and picture.size == tuple(figure.get_size_inches() * figure.dpi)
    assert len(set(picture.convert("L").tobytes())) > 10  # something is drawn
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_is_pickled() -> None:
    assert isinstance(pickle.loads(pickle.dumps(new_figure(3, 2)))._repr_png_(), bytes)


@pytest.mark.parametrize("inline", [False, True])
def test_is_shown_once_in_ipython(inline: bool) -> None:
    interactive = pytest.importorskip("IPython.core.interactiveshell")
    shell = interactive.InteractiveShell()
    if inline:
        from IPython.core.pylabtools import select_figure_formats

        select_figure_formats(shell, "png")
    data, _ = shell.display_formatter.format(plot_rates({"rate": {"a": 0.5}}))
    assert [kind for kind in data if kind.startswith("image/")] == ["image/png"]


@pytest.mark.parametrize("tutorial", sorted(TUTORIALS.glob("plot_*.py")), ids=lambda path: path.stem)
def test_cells_of_tutorials_end_with_their_figure(tutorial: Path) -> None:
    """A notebook shows the last value of a cell; figures of this package are not pyplot's, which it shows."""
    for cell in re.split(r"(?m)^# %%", tutorial.read_text(encoding="utf-8")):
        if re.search(r"(?m)^figure = plot_", cell):
            last = ast.parse("# " + cell).body[-1]
            assert isinstance(last, ast.Expr) and ast.unparse(last) == "figure"
