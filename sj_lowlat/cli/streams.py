"""Detection on spike streams, for ``sj-lowlat detect``."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from sj_lowlat.cli.options import FindOptions, StreamOptions
from sj_lowlat.detect import draw, save_image
from sj_lowlat.errors import InputError
from sj_lowlat.files import atomic_write
from sj_lowlat.network import info_of
from sj_lowlat.schedule import Schedule
from sj_lowlat.spike_camera import SpikeStream, adaptive, open_stream, to_image
from sj_lowlat.streaming import StreamDetections, detect_stream, white_rate

SUFFIXES = (".dat", ".npy", ".npz")  # of files that hold spike streams
_WINDOWS = (61, 11, 5)  # of the reconstruction
_GAP = 4  # pixels between the panels of a picture
_CAPTION = 20  # pixels of text above them
_MOST_PICTURES = 100  # of an animation; a long stream is subsampled to every second answer, every fourth, ...
_MILLISECONDS = 200  # that each is shown


def detect_in_stream(
    path: Path,
    name: Path,
    folder: Path,
    network: nn.Module,
    schedule: Schedule | None,
    options: StreamOptions,
    find: FindOptions,
) -> dict[str, Any]:
    """Run a network along a stream; draw the last answer, and all of them as an animation.

    :param name: of the results, relative to ``folder``; gets the endings .png and .gif
    :param schedule: of the network; only its charge and burst count
    :return: what JSON can hold
    """
    if schedule is None:
        raise InputError(f"{path} is a spike stream: give a spiking network (sj-lowlat convert makes one)")
    stream = open_stream(path, options.height, options.width, options.columns, options.frame_rate)
    rate = options.rate_at_white or white_rate(stream)
    names = info_of(network).class_names
    answers: list[dict[str, Any]] = []
    pictures: list[Tensor] = []
    window = min(options.window, len(stream))
    panels = partial(_panels, stream, window=window, rate=rate, names=names, min_score=find.min_score)
    every = 1  # of the answers is drawn
    run = partial(detect_stream, network, stream, schedule=schedule, score_threshold=find.min_score)
    for answer in run(window=window, every=options.every, rate_at_white=rate):
        answer = replace(answer, detections=find.of_frames(answer.detections))
        if len(answers) % every == 0:
            pictures.append(panels(answer))
        if len(pictures) > _MOST_PICTURES:
            del pictures[1::2]
            every *= 2
        when = {"frames": answer.frames, "milliseconds": answer.milliseconds}
        answers.append({**when, **answer.detections.to_dict(names)})
    drawn, animated = name.with_suffix(".png"), name.with_suffix(".gif")
    save_image(folder / drawn, panels(answer))
    first, *others = map(to_pil_image, pictures)
    with atomic_write(folder / animated) as temporary:
        first.save(temporary, save_all=True, append_images=others, duration=_MILLISECONDS, loop=0)
    frames, height, width = stream.shape
    about = {"frames": frames, "size": [width, height], "frame_rate": stream.frame_rate}
    record = {"path": str(path), "drawn": str(drawn), "animated": str(animated), "rate_at_white": rate}
    return {**record, **about, "answers": answers}


def _panels(
    stream: SpikeStream,
    answer: StreamDetections,
    *,
    window: int,
    rate: float,
    names: tuple[str, ...],
    min_score: float,
) -> Tensor:
    """The last frame, the picture rebuilt from the answer's frames, and the boxes, side by side: uint8
    ``[3, H, W]``.
    """
    last, half = answer.frames - 1, min(_WINDOWS[0], window - 1) // 2
    centre = last - window // 2  # the network saw as much before it as after it
    start = max(0, centre - half - 2 * _WINDOWS[0])  # dark pixels need spikes from far back
    windows = [2 * half + 1, *(size for size in _WINDOWS if size < 2 * half + 1)]
    rebuilt = adaptive(stream.planes(start, answer.frames), centre - start, windows)
    grey = torch.from_numpy(to_image(rebuilt, 1 / rate))
    spikes = torch.from_numpy(to_image(stream.planes(last, last + 1)[0].astype("float32"), 1.0))
    found = answer.detections
    panels = {
        f"frame {last}": spikes,
        f"rebuilt from {windows[0]} frames": grey,
        f"{answer.milliseconds:.2f} ms: {len(found) or 'nothing'} found": draw(grey, found, names, min_score),
    }
    gap = torch.full((3, grey.shape[1] + _CAPTION, _GAP), 255, dtype=torch.uint8)
    parts = []
    for text, panel in panels.items():
        line = Image.new("RGB", (panel.shape[2], _CAPTION), "white")
        ImageDraw.Draw(line).text((2, 2), text, "black", ImageFont.load_default(_CAPTION - 6))
        parts += [gap, torch.cat([pil_to_tensor(line), panel], 1)]
    return torch.cat(parts[1:], 2)
