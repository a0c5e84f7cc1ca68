"""The street behind the traffic: sky, houses, trees, pavement and road, and the light on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

__all__ = ["Street"]

Random = np.random.Generator
Floats = npt.NDArray[np.float32]

# (top of the sky, its foot, light on everything): day, overcast, evening, dusk
_WEATHERS = (
    ((86, 148, 222), (206, 226, 240), (1.0, 1.0, 0.98)),
    ((150, 158, 168), (204, 206, 208), (0.84, 0.86, 0.9)),
    ((112, 112, 170), (248, 190, 138), (1.0, 0.86, 0.72)),
    ((24, 30, 62), (90, 84, 120), (0.52, 0.55, 0.72)),
)
_GROUNDS = ((104, 134, 78), (150, 144, 132), (172, 160, 130))
_WALLS = ((188, 150, 128), (168, 172, 180), (208, 196, 170))


@dataclass(frozen=True)
class Street:
    """A place, made from its seed; fields as in ``Scene``."""

    seed: int
    side: int
    horizon: float

    def _weather(self) -> int:
        return int(np.random.default_rng([self.seed, 1]).choice(len(_WEATHERS), p=(0.4, 0.25, 0.2, 0.15)))

    def paint(self) -> Image.Image:
        """The empty street, RGB, before :meth:`light`."""
        random, side = np.random.default_rng([self.seed, 2]), self.side
        top, foot, _ = (np.array(colour, dtype=np.float32) for colour in _WEATHERS[self._weather()])
        level = int(self.horizon * side)
        pixels = np.empty((side, side, 3), dtype=np.float32)
        pixels[:level] = _fade(top, foot, level)[:, None]
        ground = np.array(_GROUNDS[random.integers(3)], dtype=np.float32)
        pixels[level:] = _fade(0.85 * ground, 1.05 * ground, side - level)[:, None]
        picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        draw = ImageDraw.Draw(picture)
        if random.random() < 0.85:
            self._houses(draw, random, level)
        for _ in range(random.integers(0, 5)):
            self._tree(draw, random, level)
        self._road(draw, random, level)
        for _ in range(random.integers(0, 3)):
            self._post(draw, random, level)
        return picture

    def _houses(self, draw: ImageDraw.ImageDraw, random: Random, level: int) -> None:
        left, dark = -0.1, self._weather() == 3
        while left < 1.05:
            width, height = random.uniform(0.12, 0.34), random.uniform(0.1, 1.0) * self.horizon
            wall = random.uniform(0.6, 1.0) * np.array(_WALLS[random.integers(3)])
            x1, x2, y1 = left * self.side, (left + width) * self.side, level - height * self.side
            draw.rectangle((x1, y1, x2, level), fill=_rgb(wall))
            panes, floors = int(random.integers(2, 6)), max(1, int(height / 0.07))
            lit = random.random((floors, panes)) < (0.5 if dark else 0.1)
            for floor, pane in np.ndindex(floors, panes):
                px = x1 + (pane + 0.25) * (x2 - x1) / panes
                py = y1 + (floor + 0.25) * (level - y1) / floors
                corner = (px + 0.5 * (x2 - x1) / panes, py + 0.5 * (level - y1) / floors)
                colour = (255, 224, 140) if lit[floor, pane] else _rgb(0.5 * wall)
                draw.rectangle((px, py, *corner), fill=colour)
            left += width + (random.uniform(0.0, 0.15) if random.random() < 0.4 else 0.0)

    def _tree(self, draw: ImageDraw.ImageDraw, random: Random, level: int) -> None:
        x, foot = random.uniform(0, self.side), level + 0.03 * self.side
        height = random.uniform(0.12, 0.4) * self.side
        draw.rectangle((x - 0.04 * height, foot - 0.5 * height, x + 0.04 * height, foot), fill=(84, 62, 44))
        green = np.array((58, 108, 52)) * random.uniform(0.7, 1.25)
        for _ in range(6):
            cx, cy = x + random.normal(0, 0.14) * height, foot - random.uniform(0.5, 0.9) * height
            radius = random.uniform(0.14, 0.24) * height
            box = (cx - radius, cy - radius, cx + radius, cy + radius)
            draw.ellipse(box, fill=_rgb(green * random.uniform(0.8, 1.15)))

    def _road(self, draw: ImageDraw.ImageDraw, random: Random, level: int) -> None:
        depth, side = self.side - level, self.side
        kerb, end = level + random.uniform(0.1, 0.25) * depth, level + random.uniform(0.8, 1.1) * depth
        tone = random.uniform(70, 112)
        draw.rectangle((0, kerb, side, end), fill=_rgb(np.array((tone, tone, tone + 4))))
        draw.rectangle((0, kerb, side, kerb + 0.015 * side), fill=(190, 188, 182))
        for lane in range(1, int(random.integers(2, 4))):
            # far lanes are narrower
            y, thick = kerb + (end - kerb) * (lane / 3) ** 1.3, 0.008 * side * (1 + lane / 2)
            dash, shift = random.uniform(0.08, 0.16) * side, random.uniform(0, 0.2) * side
            for start in np.arange(-shift, side, 2 * dash):
                draw.rectangle((start, y, start + dash, y + thick), fill=(222, 220, 206))

    def _post(self, draw: ImageDraw.ImageDraw, random: Random, level: int) -> None:
        x, foot = random.uniform(0, self.side), level + 0.04 * self.side
        top, wide = foot - random.uniform(0.2, 0.38) * self.side, max(1.0, 0.006 * self.side)
        draw.rectangle((x - wide, top, x + wide, foot), fill=(70, 72, 78))
        if random.random() < 0.5:
            draw.ellipse((x - 4 * wide, top - 4 * wide, x + 4 * wide, top + 4 * wide), fill=(200, 44, 40))
        else:
            draw.rectangle((x - 3 * wide, top - 2 * wide, x + 9 * wide, top), fill=(250, 236, 190))

    def light(self, pixels: Floats) -> Floats:
        """Weather, exposure and a fall of light across pixels ``[H, W, 3]``, 0 to 255."""
        random = np.random.default_rng([self.seed, 3])
        exposure = np.float32(random.uniform(0.85, 1.12))
        tint = np.array(_WEATHERS[self._weather()][2], dtype=np.float32) * exposure
        slope_x, slope_y = random.uniform(-0.15, 0.15, 2).astype(np.float32)
        ramp = np.linspace(-1, 1, len(pixels), dtype=np.float32)
        fall = 1 + slope_x * ramp[None, :, None] + slope_y * ramp[:, None, None]
        return (pixels * tint * fall).astype(np.float32)


def _fade(first: Floats, last: Floats, rows: int) -> Floats:
    part = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    return (1 - part) * first + part * last


def _rgb(colour: npt.NDArray[np.floating]) -> tuple[int, int, int]:
    red, green, blue = (int(part) for part in np.clip(colour, 0, 255))
    return red, green, blue
