"""Detection in videos, for ``sj-lowlat detect``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sj_lowlat.cli.options import FindOptions
from sj_lowlat.cli.video_options import VideoOptions
from sj_lowlat.detect import draw
from sj_lowlat.errors import InputError
from sj_lowlat.network import info_of
from sj_lowlat.schedule import Schedule
from sj_lowlat.video import DeadZone, FrameDetections, VideoWriter, detect_video, open_frames, track

_FPS = 25.0  # of sources that do not say


def detect_in_video(
    path: Path,
    name: Path,
    folder: Path,
    network: nn.Module,
    schedule: Schedule | None,
    options: VideoOptions,
    find: FindOptions,
    resize: str,
    quiet: bool = False,
) -> dict[str, Any]:
    """Run a network along a video; write it with boxes, and what was found in each frame as a line of JSON.

    After an interruption both files hold the frames until then.

    :param name: of the results, relative to ``folder``; gets the endings .mp4 (or .gif) and .jsonl
    :param schedule: of the network; its charge and burst count, and its steps for the first frame
    :param quiet: without the running counter
    :return: what JSON can hold
    """
    if schedule is None:
        raise InputError(f"{path} is a video: give a spiking network (sj-lowlat convert makes one)")
    source, names = open_frames(path), info_of(network).class_names
    drawn, lines = name.with_suffix(".gif" if options.gif else ".mp4"), name.with_suffix(".jsonl")
    if path.resolve() in ((folder / drawn).resolve(), (folder / lines).resolve()):
        raise InputError(f"{folder / drawn} would overwrite the video that is read: give another output")
    shown: list[Tensor] = []  # the last picture that was decoded

    def pictures() -> Iterator[Tensor | None]:
        for frame in source:
            if frame is not None:
                shown[:] = [frame]
            yield frame

    answers = detect_video(
        network,
        pictures(),
        steps_per_frame=options.steps_per_frame,
        dead_zone=DeadZone(options.dead_zone, options.block),
        score_threshold=find.min_score,
        resize=resize,
        schedule=schedule,
    )
    with_ids: Iterator[tuple[FrameDetections, Tensor | None]]
    answers = (replace(each, detections=find.of_frames(each.detections)) for each in answers)
    if options.track:
        with_ids = ((each.answer, each.ids) for each in track(answers, source.fps))
    else:
        with_ids = ((answer, None) for answer in answers)
    folder.mkdir(parents=True, exist_ok=True)
    fps = source.fps or _FPS
    totals = _Totals()
    try:
        with (
            closing(answers),
            (folder / lines).open("w", encoding="utf-8") as rows,
            VideoWriter(folder / drawn, fps) as video,
        ):
            for answer, ids in with_ids:
                video.write(_drawn(shown[0], answer, ids, names, find.min_score))
                rows.write(json.dumps(_row(answer, ids, names, fps)) + "\n")
                totals.add(answer)
                if not quiet:
                    _tell(path, answer, totals, source.count)
    finally:
        if not totals.frames:
            (folder / lines).unlink(missing_ok=True)
    if not quiet and sys.stderr.isatty():
        print(file=sys.stderr)
    files = {"path": str(path), "drawn": str(drawn), "lines": str(lines), "fps": source.fps}
    return {**files, **totals.to_json()}


class _Totals:
    """Means over the frames of a video, in constant memory."""

    def __init__(self) -> None:
        self.frames = self.fresh = self.objects = 0
        self.sums = {"milliseconds": 0.0, "steps": 0.0, "spikes": 0.0, "events": 0.0, "energy": 0.0}
        self.whole: list[float] = []  # energy of the first frame, a whole run

    def add(self, answer: FrameDetections) -> None:
        self.frames, self.fresh = self.frames + 1, self.fresh + answer.fresh
        self.objects += len(answer.detections)
        for key in self.sums:
            self.sums[key] += getattr(answer, key)
        self.whole = self.whole or [answer.energy]

    def to_json(self) -> dict[str, Any]:
        means = {key: value / max(self.frames, 1) for key, value in self.sums.items()}
        return {
            "frames": self.frames,
            "started_anew": self.fresh,
            "objects": self.objects,
            "energy_of_a_whole_run": self.whole[0] if self.whole else 0.0,
            "mean_of_a_frame": means,
        }


def _row(answer: FrameDetections, ids: Tensor | None, names: tuple[str, ...], fps: float) -> dict[str, Any]:
    row = {"frame": answer.frame, "seconds": answer.frame / fps, "steps": answer.steps, "fresh": answer.fresh}
    cost = {key: getattr(answer, key) for key in ("milliseconds", "spikes", "events", "energy")}
    tracks = {} if ids is None else {"ids": ids.tolist()}
    return {**row, **cost, **answer.detections.to_dict(names), **tracks}


def _drawn(
    image: Tensor, answer: FrameDetections, ids: Tensor | None, names: tuple[str, ...], min_score: float
) -> Tensor:
    """The frame with its boxes; ids stand before the names."""
    found = answer.detections
    if ids is None or not len(found):
        return draw(image, found, names, min_score)
    texts = [
        f"{id_} {names[label]}" if id_ >= 0 else names[label]
        for id_, label in zip(ids.tolist(), found.labels.tolist(), strict=True)
    ]
    places = type(found)(found.boxes, found.scores, torch.arange(len(found)))
    return draw(image, places, texts, min_score)


def _tell(path: Path, answer: FrameDetections, totals: _Totals, count: int | None) -> None:
    """The running counter, on one line of a terminal, else every hundredth frame."""
    terminal = sys.stderr.isatty()
    if not terminal and answer.frame % 100:
        return
    of, whole = f"/{count}" if count else "", totals.whole[0]
    saved = f", {100 * answer.energy / whole:.1f} % of a whole run" if whole else ""
    text = (
        f"{path.name}: frame {answer.frame + 1}{of}, {answer.milliseconds:.0f} ms, {answer.steps} steps, "
        f"{answer.spikes:.3f} spikes a neuron, energy {100 * answer.energy:.1f} % of the ANN{saved}"
    )
    print(f"\r\033[K{text}" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)
