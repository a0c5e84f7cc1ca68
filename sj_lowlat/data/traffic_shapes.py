"""Drawings of persons, bicycles, cars and buses, each in a box of height 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["ASPECTS", "SHAPES", "sprite"]

Colour = tuple[int, int, int]
Point = tuple[float, float]
Random = np.random.Generator

_SKINS: tuple[Colour, ...] = ((245, 208, 176), (224, 172, 125), (168, 112, 74), (104, 68, 46))
_HAIRS: tuple[Colour, ...] = ((36, 28, 24), (88, 56, 32), (186, 142, 76), (150, 150, 152), (132, 50, 28))
_TYRE: Colour = (32, 32, 36)
_GLASS: Colour = (146, 186, 206)
_RUBBER: Colour = (46, 46, 50)


@dataclass(frozen=True)
class Pen:
    """Draws in units of the drawing's height: x from 0 to the aspect ratio, y from 0 (top) to 1."""

    draw: ImageDraw.ImageDraw
    height: float

    def _scaled(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self.height, y * self.height) for x, y in points]

    def _disc(self, x: float, y: float, radius: float) -> list[Point]:
        return self._scaled([(x - radius, y - radius), (x + radius, y + radius)])

    def polygon(self, colour: Colour, *points: Point) -> None:
        self.draw.polygon(self._scaled(points), fill=colour)

    def trapezium(self, colour: Colour, x: float, top: Point, foot: Point) -> None:
        """Symmetric about x; top and foot are (half width, y)."""
        (a, y1), (b, y2) = top, foot
        self.polygon(colour, (x - a, y1), (x + a, y1), (x + b, y2), (x - b, y2))

    def line(self, colour: Colour, width: float, *points: Point) -> None:
        """A stroke with round joints and ends."""
        thick = max(1, round(width * self.height))
        self.draw.line(self._scaled(points), fill=colour, width=thick, joint="curve")
        for x, y in (points[0], points[-1]):
            self.circle(colour, x, y, width / 2)

    def circle(self, colour: Colour, x: float, y: float, radius: float) -> None:
        self.draw.ellipse(self._disc(x, y, radius), fill=colour)

    def ring(self, colour: Colour, x: float, y: float, radius: float, width: float) -> None:
        thick = max(1, round(width * self.height))
        self.draw.ellipse(self._disc(x, y, radius), outline=colour, width=thick)

    def dome(self, colour: Colour, x: float, y: float, radius: float) -> None:
        """The upper half of a disc, and a little of the lower left."""
        self.draw.pieslice(self._disc(x, y, radius), 170, 360, fill=colour)

    def slab(self, colour: Colour, x1: float, y1: float, x2: float, y2: float, radius: float = 0.0) -> None:
        """A rectangle with rounded corners."""
        self.draw.rounded_rectangle(self._scaled([(x1, y1), (x2, y2)]), radius * self.height, fill=colour)


def _paint(random: Random) -> Colour:
    """A clear colour, now and then white, grey or black."""
    if random.random() < 0.25:
        grey = int(random.choice((238, 196, 120, 58)))
        return grey, grey, grey + 8
    hue, value, grey_part = random.uniform(0, 6), random.uniform(110, 235), random.uniform(0.1, 0.5)
    wheel = [min(max(abs((hue + shift) % 6 - 3) - 1, 0.0), 1.0) for shift in (0, 4, 2)]
    red, green, blue = (int(value * (grey_part + (1 - grey_part) * part)) for part in wheel)
    return red, green, blue


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, int(part * factor)) for part in colour)
    return red, green, blue


def _head(pen: Pen, random: Random, x: float, y: float, radius: float) -> None:
    skin, hair = _SKINS[random.integers(len(_SKINS))], _HAIRS[random.integers(len(_HAIRS))]
    style = random.random()
    if style < 0.25:  # long hair, behind the head
        pen.slab(hair, x - 1.15 * radius, y - 0.4 * radius, x + 0.6 * radius, y + 1.9 * radius, 0.5 * radius)
    pen.circle(skin, x, y, radius)
    pen.dome(_paint(random) if style > 0.8 else hair, x, y - 0.1 * radius, 1.1 * radius)
    if style > 0.8:  # the peak of a cap
        pen.slab(hair, x, y - 0.35 * radius, x + 1.6 * radius, y - 0.1 * radius)


def person(pen: Pen, random: Random, phase: float) -> None:
    """Somebody walking or standing; ``phase`` moves arms and legs."""
    shirt, trousers, skin = _paint(random), _shade(_paint(random), 0.7), _SKINS[random.integers(len(_SKINS))]
    stride, build, dress = random.uniform(0.03, 0.16), random.uniform(0.85, 1.25), random.random() < 0.25
    swing = stride * math.sin(phase)
    hip, shoulder, x = 0.54, 0.21, 0.25
    limb = 0.085 * build
    for side, tone in ((-1, 0.75), (1, 1.0)):
        foot = x + side * swing
        knee = (x + side * swing * 0.6 + 0.02, 0.75)
        pen.line(skin if dress else _shade(trousers, tone), limb, (x, hip), knee, (foot, 0.94))
        pen.slab(_shade(_RUBBER, tone), foot - 0.04, 0.935, foot + 0.075, 0.99, 0.02)
    pen.line(_shade(shirt, 0.7), 0.065 * build, (x - 0.05, shoulder + 0.03), (x + 1.1 * swing, 0.52))
    wide = 0.105 * build
    pen.trapezium(shirt, x, (wide, shoulder), (0.8 * wide, hip))
    pen.circle(shirt, x - 0.6 * wide, shoulder, 0.4 * wide)
    pen.circle(shirt, x + 0.6 * wide, shoulder, 0.4 * wide)
    if dress:
        pen.trapezium(shirt, x, (0.7 * wide, 0.45), (1.5 * wide, 0.74))
    if random.random() < 0.3:
        pen.slab(_paint(random), x - wide - 0.09, shoulder + 0.02, x - 0.5 * wide, 0.45, 0.03)
    pen.line(_shade(shirt, 0.88), 0.065 * build, (x + 0.02, shoulder + 0.04), (x - 1.1 * swing + 0.03, 0.5))
    pen.circle(skin, x - 1.1 * swing + 0.03, 0.52, 0.03)
    pen.line(skin, 0.06, (x, 0.14), (x, shoulder))
    _head(pen, random, x + 0.01, 0.105, random.uniform(0.065, 0.08))


def rider(pen: Pen, random: Random, phase: float) -> None:
    """The person on a bicycle."""
    shirt, trousers, skin = _paint(random), _shade(_paint(random), 0.7), _SKINS[random.integers(len(_SKINS))]
    hip, shoulder, hand = (0.24, 0.55), (0.45, 0.24), (0.68, 0.5)
    for turn, tone in ((phase + math.pi, 0.75), (phase, 1.0)):
        foot = (0.42 + 0.09 * math.cos(turn), 0.87 + 0.09 * math.sin(turn))
        knee = (0.5 + 0.04 * math.cos(turn), 0.62 + 0.05 * math.sin(turn))
        pen.line(_shade(trousers, tone), 0.09, hip, knee, foot)
        pen.slab(_RUBBER, foot[0] - 0.03, foot[1], foot[0] + 0.08, foot[1] + 0.045, 0.02)
    pen.line(shirt, 0.17, (hip[0] + 0.03, hip[1] - 0.05), (shoulder[0] - 0.02, shoulder[1] + 0.06))
    pen.line(_shade(shirt, 0.8), 0.06, shoulder, (0.55, 0.42), hand)
    pen.circle(skin, *hand, 0.03)
    _head(pen, random, 0.52, 0.11, 0.08)


def _spoke(pen: Pen, colour: Colour, width: float, x: float, y: float, radius: float, angle: float) -> None:
    """A diameter of a circle."""
    dx, dy = radius * math.cos(angle), radius * math.sin(angle)
    pen.line(colour, width, (x - dx, y - dy), (x + dx, y + dy))


def bicycle(pen: Pen, random: Random, phase: float) -> None:
    """A bicycle from the side; ``phase`` turns wheels and pedals."""
    frame, tyre, stroke = _paint(random), random.uniform(0.06, 0.085), random.uniform(0.055, 0.075)
    rear, front, pedals, saddle, bar = (0.36, 0.66), (1.24, 0.66), (0.72, 0.68), (0.6, 0.22), (1.1, 0.16)
    for x, y in (rear, front):
        for spoke in range(3):
            _spoke(pen, (150, 150, 156), 0.015, x, y, 0.28, phase + spoke * math.pi / 3)
        pen.ring(_TYRE, x, y, 0.33, tyre)
    pen.line(frame, stroke, rear, pedals, (1.12, 0.3), (0.63, 0.34), rear)
    pen.line(frame, stroke, pedals, saddle)
    pen.line(frame, stroke, bar, front)
    pen.line(_RUBBER, 0.06, (0.5, 0.2), (0.7, 0.2))
    pen.line(_RUBBER, 0.05, (1.0, 0.12), bar, (1.2, 0.13))
    _spoke(pen, _RUBBER, 0.03, *pedals, 0.11, phase)
    if random.random() < 0.4:
        pen.slab(_shade(_paint(random), 0.8), 1.16, 0.18, 1.4, 0.34, 0.02)


def _wheel(pen: Pen, x: float, y: float, radius: float, phase: float) -> None:
    pen.circle(_TYRE, x, y, radius)
    pen.circle((176, 178, 184), x, y, 0.55 * radius)
    dx, dy = 0.5 * radius * math.cos(phase), 0.5 * radius * math.sin(phase)
    pen.line(_RUBBER, 0.2 * radius, (x - dx, y - dy), (x + dx, y + dy))
    pen.line(_RUBBER, 0.2 * radius, (x + dy, y - dx), (x - dy, y + dx))


def car(pen: Pen, random: Random, phase: float) -> None:
    """A car from the side, driving to the right."""
    paint, length = _paint(random), random.uniform(2.15, 2.6)
    roof_start, roof_end = random.uniform(0.12, 0.75), random.uniform(1.35, 1.7)
    nose, waist = random.uniform(0.25, 0.5), random.uniform(0.42, 0.5)
    screen = min(roof_end + nose, length - 0.15)
    back = max(0.06, roof_start - random.uniform(0.08, 0.4))
    pen.polygon(paint, (back, waist), (roof_start, 0.06), (roof_end, 0.06), (screen, waist))
    glass = _shade(_GLASS, random.uniform(0.5, 1.1))
    roof = ((roof_start + 0.06, 0.13), (roof_end - 0.04, 0.13))
    pen.polygon(glass, (back + 0.12, waist), *roof, (screen - 0.12, waist))
    middle = (roof_start + roof_end) / 2
    pen.slab(paint, middle - 0.03, 0.1, middle + 0.03, waist)
    pen.slab(paint, 0.03, waist - 0.02, length - 0.03, 0.84, 0.12)
    pen.slab(_shade(paint, 0.72), 0.06, 0.74, length - 0.06, 0.86, 0.05)
    pen.line(_shade(paint, 0.6), 0.015, (middle, waist), (middle, 0.76))
    pen.slab(_shade(paint, 0.5), middle - 0.2, waist + 0.07, middle - 0.08, waist + 0.1)
    pen.slab((252, 238, 170), length - 0.16, 0.52, length - 0.03, 0.62, 0.03)
    pen.slab((196, 34, 30), 0.03, 0.52, 0.12, 0.64, 0.03)
    for x in (0.45, length - 0.45):
        pen.circle(_shade(paint, 0.35), x, 0.81, 0.21)
        _wheel(pen, x, 0.82, 0.17, phase)


def car_front(pen: Pen, random: Random, phase: float) -> None:
    """A car from the front or the back."""
    paint, rear, roof = _paint(random), random.random() < 0.5, random.uniform(0.2, 0.3)
    for x in (0.1, 0.95):
        pen.slab(_TYRE, x, 0.7, x + 0.2, 0.98, 0.04)
    pen.polygon(paint, (0.13, 0.48), (roof, 0.05), (1.25 - roof, 0.05), (1.12, 0.48))
    glass = _shade(_GLASS, random.uniform(0.5, 1.1))
    pen.polygon(glass, (0.22, 0.45), (roof + 0.05, 0.11), (1.2 - roof, 0.11), (1.03, 0.45))
    pen.slab(paint, 0.04, 0.42, 1.21, 0.86, 0.1)
    pen.slab(_shade(paint, 0.6), 0.06, 0.74, 1.19, 0.88, 0.05)
    lamp = (200, 30, 28) if rear else (255, 242, 190)
    for x in (0.08, 0.93):
        pen.slab(lamp, x, 0.52, x + 0.24, 0.64, 0.05)
    pen.slab((40, 40, 44), 0.4, 0.54, 0.85, 0.66, 0.03)
    pen.slab((236, 236, 226), 0.47, 0.76, 0.78, 0.84)


def bus(pen: Pen, random: Random, phase: float) -> None:
    """A bus from the side, driving to the right."""
    paint, length = _paint(random), random.uniform(2.3, 2.9)
    decks = 2 if random.random() < 0.2 else 1
    pen.slab(paint, 0.03, 0.03, length - 0.03, 0.9, 0.08)
    pen.slab(_shade(paint, 0.7), 0.03, 0.78, length - 0.03, 0.9, 0.03)
    pen.slab(_paint(random), 0.03, 0.6, length - 0.03, 0.66)
    glass, panes = _shade(_GLASS, random.uniform(0.45, 1.1)), int(random.integers(4, 8))
    width = (length - 0.6) / panes
    for top, bottom in ((0.12, 0.5),) if decks == 1 else ((0.08, 0.28), (0.36, 0.56)):
        for pane in range(panes):
            pen.slab(glass, 0.12 + pane * width, top, 0.07 + (pane + 1) * width, bottom, 0.02)
    pen.slab(_shade(glass, 0.8), length - 0.42, 0.3, length - 0.2, 0.84, 0.02)
    pen.slab(glass, length - 0.14, 0.14, length - 0.03, 0.56, 0.02)
    pen.slab((252, 238, 170), length - 0.1, 0.7, length - 0.03, 0.77)
    pen.slab((196, 34, 30), 0.03, 0.68, 0.09, 0.77)
    for x in (0.45, length - 0.62):
        _wheel(pen, x, 0.88, 0.11, phase)


def bus_front(pen: Pen, random: Random, phase: float) -> None:
    """A bus from the front."""
    paint = _paint(random)
    for x in (0.1, 0.62):
        pen.slab(_TYRE, x, 0.85, x + 0.14, 0.99, 0.02)
    pen.slab(paint, 0.04, 0.03, 0.82, 0.92, 0.07)
    pen.slab(_shade(_GLASS, random.uniform(0.45, 1.1)), 0.1, 0.2, 0.76, 0.58, 0.04)
    pen.slab((28, 28, 30), 0.14, 0.07, 0.72, 0.16, 0.02)
    pen.slab((250, 190, 70), 0.2, 0.095, 0.2 + random.uniform(0.2, 0.45), 0.135)
    pen.slab(_shade(paint, 0.65), 0.04, 0.8, 0.82, 0.92, 0.04)
    for x in (0.1, 0.66):
        pen.slab((255, 242, 190), x, 0.68, x + 0.1, 0.76, 0.03)


#: drawing -> function (pen, random, phase)
SHAPES: dict[str, Callable[[Pen, Random, float], None]] = {
    function.__name__: function for function in (person, rider, bicycle, car, car_front, bus, bus_front)
}
#: drawing -> width of its canvas in heights
ASPECTS = {
    "person": 0.6,
    "rider": 0.8,
    "bicycle": 1.6,
    "car": 2.6,
    "car_front": 1.25,
    "bus": 2.9,
    "bus_front": 0.86,
}


def sprite(name: str, style: int, height: float, phase: float, mirrored: bool) -> Image.Image:
    """Draw one thing, a key of :data:`SHAPES`, as RGBA with alpha 0 or 255.

    :param style: seed of its colours and proportions
    :param height: of the canvas, in pixels
    :param phase: of legs and wheels, in radians
    :param mirrored: facing left
    """
    size = (max(2, math.ceil(ASPECTS[name] * height)), max(2, math.ceil(height)))
    canvas = Image.new("RGBA", size)
    SHAPES[name](Pen(ImageDraw.Draw(canvas), height), np.random.default_rng(style), phase)
    return canvas.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else canvas
