"""Figures in notebooks."""

from __future__ import annotations

import io
import pickle
import sys

import pytest
from PIL import Image

from sj_lowlat.plots import plot_rates
from sj_lowlat.plots.style import new_figure


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
