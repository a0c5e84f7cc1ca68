"""Pictures rebuilt from a spike camera's stream beside the light that it saw: PSNR in dB, without a network.

The scenes, the light and the noise are those of Table 3's traffic clips (spike_camera.py), also in dim
light and where nothing moves. Values are grey times ``rate_at_white``, brought back and cut at white.

    python benchmarks/rebuild.py
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from clips import DARK, HOLD, TRAFFIC_SIZE, Light
from numpy.typing import NDArray
from runner import arguments, markdown, save_figure, save_results

from sj_lowlat.data import moving_sequence
from sj_lowlat.spike_camera import adaptive, encode_frames, sequence_frames, tfi, tfp, tfstp, to_image

FRAMES = 320
CENTRE = FRAMES // 2
NEAR = 30  # frames on both sides within which a pixel's light changes, or does not
SEED = 100_003  # of the first scene of Table 3
CAMERAS: dict[str, dict[str, Any]] = {
    "daylight": {"rate_at_white": 0.6},
    "dim": {"rate_at_white": 0.2, "photons": 50.0},
    "little light": DARK,
}
MOTIONS = {"still": FRAMES, "slow": HOLD, "fast": 1}  # steps that a drawn frame stands
REBUILD: dict[str, Callable[[NDArray[Any], int], Light]] = {
    "TFP, 31 frames": partial(tfp, window=31),
    "TFP, 255 frames": partial(tfp, window=255),
    "TFI": tfi,
    "TFSTP": tfstp,
    "adaptive": adaptive,
}


def light_of(scene: int, hold: int, size: int) -> Light:
    """What the camera sees, ``[T, H, W]`` in [0, 1]."""
    sequence = moving_sequence(SEED + scene, -(-FRAMES // hold), size)
    return sequence_frames(sequence, hold)[:FRAMES]


def rebuilt(light: Light, scene: int, camera: dict[str, Any]) -> dict[str, Light]:
    """Grey pictures ``[H, W]`` of the middle frame, by each way."""
    planes = encode_frames(light, **camera, seed=SEED + scene)
    white = camera["rate_at_white"]
    return {name: np.minimum(rebuild(planes, CENTRE) / white, 1) for name, rebuild in REBUILD.items()}


def psnr(errors: Sequence[Light]) -> float:
    """Of all pixels of all scenes, in dB; white is 1."""
    return -10 * math.log10(float(np.concatenate([each.ravel() for each in errors]).mean()))


def measure(scenes: int, size: int, motion: str) -> dict[str, dict[str, dict[str, float]]]:
    """Camera -> way -> PSNR in dB: of all pixels, and of those whose light changes near the middle frame."""
    errors: dict[tuple[str, str, str], list[Light]] = defaultdict(list)
    for scene in range(scenes):
        light = light_of(scene, MOTIONS[motion], size)
        changes = np.ptp(light[CENTRE - NEAR : CENTRE + NEAR + 1], axis=0) > 0
        for name, camera in CAMERAS.items():
            for way, picture in rebuilt(light, scene, camera).items():
                error = (picture - light[CENTRE]) ** 2
                errors[name, way, "all"].append(error)
                errors[name, way, "moving"].append(error[changes])
    parts = ("all",) if motion == "still" else ("all", "moving")
    return {
        name: {way: {part: psnr(errors[name, way, part]) for part in parts} for way in REBUILD}
        for name in CAMERAS
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Record, rebuild, print a table for all pixels and one for those that move, draw one scene."""
    from sj_lowlat.plots import plot_images

    parser = arguments(__doc__, "rebuild", data=False)
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--size", type=int, default=TRAFFIC_SIZE, help="side of a scene in pixels")
    args = parser.parse_args(argv)

    found = {
        f"{motion}, {name}": ways
        for motion in MOTIONS
        for name, ways in measure(args.scenes, args.size, motion).items()
    }
    for part, what in {"all": "all pixels", "moving": f"light changes within {NEAR} frames"}.items():
        shown = {name: ways for name, ways in found.items() if part in ways["TFI"]}
        rows = [[way, *(f"{ways[way][part]:.1f}" for ways in shown.values())] for way in REBUILD]
        print(f"\nPSNR in dB, {what}: {args.scenes} scenes\n")
        print(markdown(["", *shown], rows))
    save_results(args.results, {"psnr": found})

    light = light_of(0, MOTIONS["fast"], args.size)
    pictures = {"the light": light[CENTRE], **rebuilt(light, 0, CAMERAS["daylight"])}
    images = [torch.from_numpy(to_image(picture, 1.0)) for picture in pictures.values()]
    save_figure(plot_images(images, list(pictures), columns=3), args.figure)


if __name__ == "__main__":
    main()
