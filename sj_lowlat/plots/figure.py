"""A figure that notebooks show. It imports matplotlib, so only functions import this file."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class ShownFigure(Figure):
    """A figure that notebooks show as a cell's last value, with ``%matplotlib inline`` or without."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()
