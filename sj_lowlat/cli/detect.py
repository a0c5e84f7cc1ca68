"""``sj-lowlat detect``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sj_lowlat.cli.options import RunOptions, StreamOptions
from sj_lowlat.cli.video_options import VideoOptions

if TYPE_CHECKING:
    from torch import Tensor


def run(
    images: list[str],
    options: RunOptions,
    streams: StreamOptions,
    videos: VideoOptions,
    model: str = "snn-tiny-yolov3-coco",
    output: str = "runs/detect",
    min_score: float = 0.25,
    resize: Literal["letterbox", "stretch"] = "letterbox",
) -> int:
    """Find objects in pictures, videos and spike streams, and draw them.

    A picture that cannot be read is reported and skipped, and the exit code is then 1. After an interruption
    detections.json holds what was found so far, and the same command goes on. On the stream of a spike camera
    (.dat, .npz, .npy) the network runs frame by frame, without a reset, and gives detections
    every few frames; the last ones are drawn as PNG, all of them (at most 100) as an animated GIF. Along a
    video (.mp4, .avi, .gif, ..., or a camera such as /dev/video0) its state is carried over from frame to
    frame; it writes an MP4 and a line of JSON for each frame, and after Ctrl-C both are whole.

    examples::

      sj-lowlat detect street.jpg
      sj-lowlat detect street.jpg holiday/ --model yolov3-tiny.weights --output found
      sj-lowlat detect street.jpg --model runs/snn --schedule 16+4
      sj-lowlat detect clip.mp4 --steps-per-frame 2 --dead-zone 0.02
      sj-lowlat detect clip.dat --height 250 --width 400 --window 128

    :param images: pictures, folders of pictures, videos, and spike streams
    :param options: how the network is run
    :param streams: how spike streams are read
    :param videos: how videos are run
    :param model: the network that ships with sj_lowlat (snn-tiny-yolov3-coco), a folder that sj-lowlat wrote,
        or a darknet file (NET.weights or NET.cfg,NET.weights[,NET.names]) or NET.onnx
    :param output: folder for the drawn pictures and detections.json
    :param min_score: score threshold in [0, 1]: detections score more than this
    :param resize: letterbox keeps a picture's proportions; stretch fills the input, as AlexeyAB's darknet
        does in training (Yolo-Fastest, YOLOv4)
    """
    from sj_lowlat.cli.clips import detect_in_video
    from sj_lowlat.cli.pictures import find_pictures
    from sj_lowlat.cli.streams import SUFFIXES, detect_in_stream
    from sj_lowlat.data import letterbox, read_image
    from sj_lowlat.detect import draw, save_image
    from sj_lowlat.errors import InputError, printable
    from sj_lowlat.evaluation.gather import network_hash
    from sj_lowlat.evaluation.predict import predict
    from sj_lowlat.files import write_json
    from sj_lowlat.network import info_of
    from sj_lowlat.progress import Progress, is_full, one_run
    from sj_lowlat.record import provenance
    from sj_lowlat.video import is_video

    if not 0 <= min_score <= 1:
        raise InputError(f"min_score is {min_score}; give a score in [0, 1]")
    folder = Path(output)
    pictures = find_pictures([Path(image) for image in images])
    inputs = {path.resolve() for path, _ in pictures}
    for _, name in pictures:
        if (folder / name).resolve() in inputs:
            raise InputError(f"{folder / name} would overwrite a picture that is read: give another output")
    network, plan = options.open(model)
    info = info_of(network)
    run = {"schedule": plan, "encoder": options.encoder, "seed": options.seed}
    times = plan.to_json() if plan else {"time_steps": None}
    settings = {"model": model, **times, "min_score": min_score, "resize": resize, "encoder": options.encoder}
    settings |= provenance(options.seed)

    def in_stream(path: Path, name: Path) -> dict[str, Any]:
        clip = detect_in_stream(path, name, folder, network, plan, streams, min_score)
        for answer in clip["answers"]:
            print(printable(f"{path}, {answer['milliseconds']:.2f} ms: {_in_words(answer)}"))
        return clip

    def in_picture(path: Path, name: Path, image: Tensor) -> dict[str, Any]:
        x, box = letterbox(image, info.size or 416, resize)
        (read,) = predict(network, x[None], [box], (min_score, 0.45, 100), **run)
        record = read.detections[0]
        save_image(folder / name, draw(image, record, info.class_names, min_score=min_score))
        found = record.to_dict(info.class_names)
        print(printable(f"{path}: {_in_words(found)}"))
        return {"path": str(path), "drawn": str(name), "size": [box.width, box.height], **found}

    results: dict[str, list[Any]] = {"images": [], "streams": [], "failed": []}
    unfinished = folder / "detections.unfinished.jsonl"
    with one_run(folder):
        request = {**settings, "command": None, "network": network_hash(network), "stream": asdict(streams)}
        request["video"] = asdict(videos)
        kept = Progress(unfinished, {**request, "device": options.device, "pictures": _state(pictures)})
        done = {record["name"]: record["answer"] for record in kept.records}
        if done:
            print(f"{len(done)} of {len(pictures)} files were done before")
        try:
            for path, name in pictures:
                answer, image = done.get(str(name)), None
                try:
                    if answer is None and path.suffix.lower() in SUFFIXES:
                        answer = in_stream(path, name)
                    elif answer is None and is_video(path):
                        answer = detect_in_video(path, name, folder, network, plan, videos, min_score, resize)
                    elif answer is None:
                        image = read_image(path)
                except (InputError, OSError) as error:
                    if is_full(error):
                        raise
                    print(
                        printable(error if str(path) in str(error) else f"{path}: {error}"), file=sys.stderr
                    )
                    results["failed"].append({"path": str(path), "error": str(error)})
                    continue
                if image is not None:
                    answer = in_picture(path, name, image)
                assert answer is not None
                if str(name) not in done:
                    kept.add({"name": str(name), "answer": answer})
                kind = "streams" if "answers" in answer else "videos" if "lines" in answer else "images"
                results.setdefault(kind, []).append(answer)
        except KeyboardInterrupt as stopped:
            stopped.add_note(f"what was found is in {folder}; the same command goes on")
            raise
        finally:
            tried = sum(map(len, results.values()))
            if tried:
                whole = {**results, "left": len(pictures) - tried, "settings": settings}
                write_json(folder / "detections.json", whole)
        unfinished.unlink(missing_ok=True)
    failed = results["failed"]
    print(f"{tried - len(failed)} drawn pictures and detections.json are in {folder}")
    if failed:
        print(f"{len(failed)} of {len(pictures)} files could not be used", file=sys.stderr)
    return 1 if failed else 0


def _state(pictures: list[tuple[Path, Path]]) -> str:
    """A hash of names, sizes and times of files."""
    states = [(path, path.stat()) for path, _ in pictures]
    rows = [(str(path), state.st_size, state.st_mtime_ns) for path, state in states]
    return sha256(repr(rows).encode()).hexdigest()[:16]


def _in_words(answer: dict[str, Any]) -> str:
    scored = zip(answer["names"], answer["scores"], strict=True)
    return ", ".join(f"{name} {score:.2f}" for name, score in scored) or "nothing found"
