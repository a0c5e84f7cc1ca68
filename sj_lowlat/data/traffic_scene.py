"""A street with traffic at a moment: what stands where, its picture and its exact boxes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from sj_lowlat.data.traffic_shapes import ASPECTS, sprite
from sj_lowlat.data.traffic_street import Street

__all__ = ["CLASS_NAMES", "Scene", "Thing", "View", "make_scene"]

#: classes of the generated traffic, in COCO's order
CLASS_NAMES = ("person", "bicycle", "car", "bus")

_LABELS = {"person": 0, "rider": 0, "bicycle": 1, "car": 2, "car_front": 2, "bus": 3, "bus_front": 3}
# heights on the nearest ground, and speeds a frame, as fractions of the picture's side
_HEIGHTS = {"person": 0.44, "bicycle": 0.25, "car": 0.25, "car_front": 0.28, "bus": 0.42, "bus_front": 0.5}
_SPEEDS = {"person": 0.006, "bicycle": 0.014, "car": 0.025, "car_front": 0.0, "bus": 0.018, "bus_front": 0.0}
_SHARES = {"person": 0.32, "bicycle": 0.22, "car": 0.2, "car_front": 0.06, "bus": 0.13, "bus_front": 0.07}

_SUPERSAMPLING = 3
_MIN_VISIBLE = 0.3
_MIN_SIDE = 3.0


@dataclass(frozen=True)
class Thing:
    """One object; lengths are fractions of the picture's side.

    ``style`` seeds its looks, ``x`` is its middle, ``ground`` the y of its foot, ``speed`` to the right and
    per frame, ``track`` its number in the scene; it faces left if ``mirrored``.
    """

    kind: str
    style: int
    x: float
    ground: float
    height: float
    speed: float
    mirrored: bool
    track: int


@dataclass(frozen=True)
class View:
    """A picture and the boxes of what can be seen."""

    #: uint8 ``[H, W, 3]``
    image: npt.NDArray[np.uint8]
    #: xyxy in pixels
    boxes: list[list[float]]
    #: indices into :data:`CLASS_NAMES`
    labels: list[int]
    #: numbers of the things in their scene
    tracks: list[int]


@dataclass(frozen=True)
class Scene:
    """A street and its things, farthest first.

    :param side: pixels of the square picture
    :param horizon: where the ground begins, as a fraction of the side
    """

    seed: int
    side: int
    horizon: float
    things: tuple[Thing, ...]

    def render(self, frame: int = 0, noise: bool = True) -> View:
        """Draw the scene at a frame, at three times the resolution, then averaged down.

        A box bounds what can be seen of its object. Objects of which less than 30 % is in the picture and not
        covered by nearer ones, or that are seen as less than 3 px wide or high, have no box.

        :param noise: add a sensor's noise
        """
        canvas = Street(self.seed, self.side * _SUPERSAMPLING, self.horizon).paint()
        owners = Image.new("L", canvas.size)  # number of the nearest thing, from 1
        areas = [_put(canvas, owners, thing, frame, number) for number, thing in enumerate(self.things, 1)]
        small = np.asarray(canvas.reduce(_SUPERSAMPLING), dtype=np.float32)
        pixels = Street(self.seed, self.side, self.horizon).light(small)
        if noise:
            random = np.random.default_rng([self.seed, 4, frame])
            pixels += random.uniform(1, 9) * random.standard_normal(pixels.shape, dtype=np.float32)
        view = View(pixels.clip(0, 255).astype(np.uint8), [], [], [])
        owned = np.asarray(owners)
        for number, (thing, area) in enumerate(zip(self.things, areas, strict=True), 1):
            if box := _visible_box(owned == number, area):
                view.boxes.append(box)
                view.labels.append(_LABELS[thing.kind])
                view.tracks.append(thing.track)
        return view


def _put(canvas: Image.Image, owners: Image.Image, thing: Thing, frame: int, number: int) -> int:
    """Draw a thing and its shadow, and note its pixels; return how many there are, seen or not."""
    side = canvas.width
    x = thing.x + thing.speed * frame
    phase = thing.style % 7 + (-1 if thing.mirrored else 1) * thing.speed * frame * 2 / thing.height * math.pi
    drawing = sprite(thing.kind, thing.style, thing.height * side, phase, thing.mirrored)
    mask = np.asarray(drawing.getchannel("A")) > 0
    left, top = round(x * side - drawing.width / 2), round(thing.ground * side - drawing.height)
    if thing.kind != "rider":
        columns = np.flatnonzero(mask.any(axis=0)) + left
        wide, deep = int(np.ptp(columns)) + 1, max(2, round(0.09 * drawing.height))
        shadow = Image.new("L", (wide, deep))
        ImageDraw.Draw(shadow).ellipse((0, 0, wide - 1, deep - 1), fill=110)
        corner = (int(columns[0]), round(thing.ground * side - 0.67 * deep))
        canvas.paste((16, 16, 20), (*corner, corner[0] + wide, corner[1] + deep), shadow)
    canvas.paste(drawing, (left, top), drawing)
    owners.paste(number, (left, top, left + drawing.width, top + drawing.height), drawing)
    return int(mask.sum())


def _visible_box(mask: npt.NDArray[np.bool_], area: int) -> list[float] | None:
    if mask.sum() < _MIN_VISIBLE * area:
        return None
    box = [edge / _SUPERSAMPLING for edge in Image.fromarray(mask).getbbox() or ()]
    return box if min(box[2] - box[0], box[3] - box[1]) >= _MIN_SIDE else None


def make_scene(seed: int, side: int) -> Scene:
    """Place one to seven things on a street; no two share more than half of the smaller one's box."""
    random = np.random.default_rng([seed, 0])
    horizon, zoom = random.uniform(0.3, 0.5), random.uniform(0.85, 1.35)
    placed: list[Thing] = []
    for _ in range(random.integers(2, 8)):
        for _ in range(12):
            thing = _place(random, horizon, zoom, len(placed))
            if all(_covered(thing, other) <= 0.5 for other in placed):
                placed.append(thing)
                break
    things: list[Thing] = []
    for thing in sorted(placed, key=lambda one: one.ground):
        things.append(thing)
        if thing.kind == "bicycle" and thing.style % 2:
            # seat and pedals of the two drawings meet
            ground, height = thing.ground - 0.16 * thing.height, 1.35 * thing.height
            track = len(placed) + thing.track
            things.append(replace(thing, kind="rider", ground=ground, height=height, track=track))
    return Scene(seed, side, horizon, tuple(things))


def _place(random: np.random.Generator, horizon: float, zoom: float, track: int) -> Thing:
    kind = str(random.choice(list(_SHARES), p=list(_SHARES.values())))
    depth = random.uniform(0.06, 1.0)
    nearness = zoom * (0.28 + 0.72 * depth) * random.uniform(0.88, 1.15)
    mirrored = bool(random.random() < 0.5)
    return Thing(
        kind=kind,
        style=int(random.integers(2**31)),
        x=random.uniform(0.05, 0.95),
        ground=min(0.99, horizon + depth * (1 - horizon)),
        height=_HEIGHTS[kind] * nearness,
        speed=_SPEEDS[kind] * nearness * random.uniform(0.5, 1.3) * (-1 if mirrored else 1),
        mirrored=mirrored,
        track=track,
    )


def _covered(one: Thing, other: Thing) -> float:
    """Shared part of the two drawings' boxes, of the smaller one."""

    def sides(thing: Thing) -> tuple[float, float, float, float]:
        half = ASPECTS[thing.kind] * thing.height / 2
        return thing.x - half, thing.ground - thing.height, thing.x + half, thing.ground

    a, b = sides(one), sides(other)
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b))
    return max(wide, 0.0) * max(high, 0.0) / smaller
