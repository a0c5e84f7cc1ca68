"""Detections to look at: the drawn picture, and what notebooks show."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path

from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from sj_lowlat.detect.detections import Detections
from sj_lowlat.detect.draw import JPEG, draw, save_image
from sj_lowlat.errors import InputError


def _drawn(found: Detections, image: Tensor | None) -> Tensor:
    image = found.image if image is None else image
    if image is None:
        raise InputError("these detections hold no picture: give it, as in plot(image), or use detect.draw")
    names = [found.name_of(label) for label in range(max(found.labels.tolist(), default=-1) + 1)]
    return draw(image, found, names, min_score=0)


def plot(found: Detections, image: Tensor | None = None) -> Image.Image:
    """See :meth:`Detections.plot`."""
    return to_pil_image(_drawn(found, image).cpu())


def save(found: Detections, path: str | Path) -> Path:
    """See :meth:`Detections.save`."""
    save_image(path, _drawn(found, None))
    return Path(path)


def to_png(found: Detections) -> bytes:
    """The drawn picture as PNG."""
    return _encoded(found, "PNG")


def _encoded(found: Detections, kind: str) -> bytes:
    file = io.BytesIO()
    plot(found).save(file, kind, **(JPEG if kind == "JPEG" else {}))
    return file.getvalue()


def how(found: Detections) -> str:
    """Steps, time and spikes in words; empty where nothing is known."""
    parts = [] if found.steps is None else [f"{found.steps} step{'' if found.steps == 1 else 's'}"]
    parts += [] if found.milliseconds is None else [f"{found.milliseconds:.0f} ms"]
    parts += [] if found.spikes is None else [f"{found.spikes:,} spikes"]
    return ", ".join(parts)


def to_html(found: Detections) -> str:
    """Picture, table and a line on the run."""
    picture = ""
    if found.image is not None:
        data = base64.b64encode(_encoded(found, "JPEG")).decode()
        picture = f'<img alt="{len(found)} detections" src="data:image/jpeg;base64,{data}">'
    rows = "".join(
        f"<tr><td>{escape(one.name)}</td><td>{one.score:.2f}</td>"
        f"<td>{', '.join(f'{side:.0f}' for side in one.box)}</td></tr>"
        for one in found
    )
    head = "<tr><th>class</th><th>score</th><th>box (x1, y1, x2, y2)</th></tr>"
    line = ", ".join(filter(None, [str(found).partition("\n")[0], how(found)]))
    return f"<div>{picture}<table>{head}{rows}</table><p>{line}</p></div>"
