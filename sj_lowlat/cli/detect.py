"""``sj-lowlat detect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from sj_lowlat.detect import Detections


def run(
    images: list[str],
    model: str = "snn-tiny-yolov3-coco",
    output: str = "runs/detect",
    time_steps: int | None = None,
    flush: int | None = None,
    levels: int | None = None,
    burst: int | None = None,
    min_score: float = 0.25,
    encoder: Literal["constant", "poisson"] = "constant",
    seed: int = 0,
    device: str = "auto",
) -> int:
    """Find objects in pictures and draw them.

    A picture that cannot be read is reported, the others go on, and the exit code is 1.

    examples::

      sj-lowlat detect street.jpg
      sj-lowlat detect street.jpg holiday/ --model yolov3-tiny.weights --output found
      sj-lowlat detect street.jpg --model runs/snn --time-steps 16 --flush 4

    :param images: pictures and folders of pictures
    :param model: the network that ships with sj_lowlat (snn-tiny-yolov3-coco), a folder that sj-lowlat wrote,
        or a darknet file (NET.weights or NET.cfg,NET.weights)
    :param output: folder for the drawn pictures and detections.json
    :param time_steps: steps with input of a spiking network; by default those it ships with, or the levels it
        was trained for
    :param flush: further steps without input; by default those it ships with, or none
    :param levels: the charge of so many steps is brought by the steps with input; by default as it ships, or
        one each
    :param burst: most spikes of a neuron in one step; by default as it ships, or 1
    :param min_score: detections score more than this, in [0, 1]
    :param encoder: constant (the image is a current) or poisson (random spikes)
    :param seed: of the poisson encoder, and of a fresh network
    :param device: auto (a GPU where there is one), cpu, cuda, cuda:1, ...
    """
    import sys
    from dataclasses import asdict, replace

    from sj_lowlat.cli.pictures import find_pictures
    from sj_lowlat.cli.running import about, find_schedule, head_maps
    from sj_lowlat.cli.sources import open_model
    from sj_lowlat.data import letterbox, read_image
    from sj_lowlat.detect import detections_from_maps, draw, save_image
    from sj_lowlat.errors import InputError
    from sj_lowlat.files import write_json

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
    network: Any = open_model(model, spiking=True, seed=seed, device=device)
    schedule = find_schedule(network, time_steps, flush, levels, burst)
    names: tuple[str, ...] = network.class_names
    found, failed = [], []
    for path, name in pictures:
        try:
            image = read_image(path)
        except (InputError, OSError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed.append({"path": str(path), "error": str(error)})
            continue
        x, box = letterbox(image, network.input_size)
        maps = head_maps(network, x[None], schedule, encoder, seed)
        record = detections_from_maps(maps, network.head_specs, score_threshold=min_score)[0].to("cpu")
        record = replace(record, boxes=box.to_image(record.boxes))
        save_image(folder / name, draw(image, record, names, min_score=min_score))
        found.append(
            {"path": str(path), "drawn": str(name), "size": [box.width, box.height], **record.to_dict(names)}
        )
        print(f"{path}: {_in_words(record, names)}")
    times = asdict(schedule) if schedule else {"time_steps": None}
    run = {"model": model, **times, "min_score": min_score, "encoder": encoder}
    write_json(
        folder / "detections.json", {"images": found, "failed": failed, "settings": {**run, **about(seed)}}
    )
    print(f"{len(found)} drawn pictures and detections.json are in {folder}")
    if failed:
        print(f"{len(failed)} of {len(pictures)} pictures could not be read", file=sys.stderr)
    return 1 if failed else 0


def _in_words(record: Detections, names: tuple[str, ...]) -> str:
    scored = zip(record.labels.tolist(), record.scores.tolist(), strict=True)
    return ", ".join(f"{names[label]} {score:.2f}" for label, score in scored) or "nothing found"
