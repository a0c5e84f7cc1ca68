"""``sj-lowlat detect``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal


def run(
    images: list[str],
    model: str = "snn-tiny-yolov3-coco",
    output: str = "runs/detect",
    schedule: str | None = None,
    time_steps: int | None = None,
    flush: int | None = None,
    levels: int | None = None,
    burst: int | None = None,
    min_score: float = 0.25,
    encoder: Literal["constant", "poisson"] = "constant",
    seed: int = 0,
    height: int | None = None,
    width: int | None = None,
    columns: int | None = None,
    frame_rate: float = 20000.0,
    window: int = 32,
    every: int = 16,
    rate_at_white: float | None = None,
    device: str = "auto",
) -> int:
    """Find objects in pictures and spike streams, and draw them.

    A picture that cannot be read is reported and skipped, and the exit code is then 1. On the stream of a
    spike camera (.dat, .npz, .npy) the network runs frame by frame, without a reset, and gives detections
    every few frames; the last ones are drawn as PNG, all of them (at most 100) as an animated GIF.

    examples::

      sj-lowlat detect street.jpg
      sj-lowlat detect street.jpg holiday/ --model yolov3-tiny.weights --output found
      sj-lowlat detect street.jpg --model runs/snn --schedule 16+4
      sj-lowlat detect clip.dat --height 250 --width 400 --window 128

    :param images: pictures, folders of pictures, and spike streams
    :param model: the network that ships with sj_lowlat (snn-tiny-yolov3-coco), a folder that sj-lowlat wrote,
        or a darknet file (NET.weights or NET.cfg,NET.weights)
    :param output: folder for the drawn pictures and detections.json
    :param schedule: how a spiking network is run: 4+2b4 is 4 steps with input, 2 of flush (without input),
        bursts of up to 4 spikes; by default the network's own, else as many steps as it has levels
    :param time_steps: T, overrides the schedule's steps with input
    :param flush: overrides the schedule's steps without input
    :param levels: L, overrides the schedule's charge (input gain): the T steps carry the charge of L steps
    :param burst: overrides the schedule's burst, the most spikes of a neuron in one step
    :param min_score: score threshold in [0, 1]: detections score more than this
    :param encoder: constant (the image is a current) or poisson (random spikes)
    :param seed: of the poisson encoder, and of a fresh network
    :param height: rows of a .dat stream; by default 250
    :param width: columns of a .dat stream; by default 400
    :param columns: stored columns of a .dat stream, where the recorder pads rows (416 for 400)
    :param frame_rate: of a stream, in Hz
    :param window: frames of a stream that detections are computed from; more where there is little light,
        fewer where objects move fast
    :param every: frames of a stream between detections
    :param rate_at_white: spikes a frame of a white pixel; by default estimated from the stream
    :param device: auto (a GPU where there is one), cpu, cuda, cuda:1, ...
    """
    from sj_lowlat.cli.pictures import find_pictures
    from sj_lowlat.cli.running import find_schedule
    from sj_lowlat.cli.streams import SUFFIXES, StreamOptions, detect_in_stream
    from sj_lowlat.data import letterbox, read_image
    from sj_lowlat.detect import draw, save_image
    from sj_lowlat.errors import InputError
    from sj_lowlat.evaluation.predict import predict
    from sj_lowlat.files import write_json
    from sj_lowlat.network import info_of
    from sj_lowlat.record import provenance
    from sj_lowlat.zoo import open_network

    if not 0 <= min_score <= 1:
        raise InputError(f"min_score is {min_score}; give a score in [0, 1]")
    folder = Path(output)
    pictures = find_pictures([Path(image) for image in images])
    inputs = {path.resolve() for path, _ in pictures}
    for _, name in pictures:
        if (folder / name).resolve() in inputs:
            raise InputError(
                f"drawing {folder / name} would overwrite a picture that is read: give another output folder"
            )
    network: Any = open_network(model, spiking=True, seed=seed, device=device)
    plan = find_schedule(network, schedule, time_steps=time_steps, flush=flush, levels=levels, burst=burst)
    names: tuple[str, ...] = info_of(network).class_names
    streams = StreamOptions(height, width, columns, frame_rate, window, every, rate_at_white)
    found, failed, recorded = [], [], []
    for path, name in pictures:
        try:
            if path.suffix.lower() in SUFFIXES:
                clip = detect_in_stream(path, name, folder, network, plan, streams, min_score)
                recorded.append(clip)
                for answer in clip["answers"]:
                    print(f"{path}, {answer['milliseconds']:.2f} ms: {_in_words(answer)}")
                continue
            image = read_image(path)
        except (InputError, OSError) as error:
            print(error if str(path) in str(error) else f"{path}: {error}", file=sys.stderr)
            failed.append({"path": str(path), "error": str(error)})
            continue
        x, box = letterbox(image, info_of(network).size or 416)
        (read,) = predict(
            network, x[None], [box], (min_score, 0.45, 100), schedule=plan, encoder=encoder, seed=seed
        )
        record = read.detections[0]
        save_image(folder / name, draw(image, record, names, min_score=min_score))
        answer = record.to_dict(names)
        found.append({"path": str(path), "drawn": str(name), "size": [box.width, box.height], **answer})
        print(f"{path}: {_in_words(answer)}")
    times = plan.to_json() if plan else {"time_steps": None}
    run = {"model": model, **times, "min_score": min_score, "encoder": encoder}
    write_json(
        folder / "detections.json",
        {"images": found, "streams": recorded, "failed": failed, "settings": {**run, **provenance(seed)}},
    )
    print(f"{len(found) + len(recorded)} drawn pictures and detections.json are in {folder}")
    if failed:
        print(f"{len(failed)} of {len(pictures)} files could not be used", file=sys.stderr)
    return 1 if failed else 0


def _in_words(answer: dict[str, Any]) -> str:
    scored = zip(answer["names"], answer["scores"], strict=True)
    return ", ".join(f"{name} {score:.2f}" for name, score in scored) or "nothing found"
