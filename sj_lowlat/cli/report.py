"""``sj-lowlat report``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sj_lowlat.cli.options import RunOptions


def run(
    pictures: list[str],
    options: RunOptions,
    model: str | None = None,
    output: str = "report.html",
    evaluation: str | None = None,
    min_score: float | None = None,
    resize: Literal["letterbox", "stretch"] | None = None,
) -> None:
    """Write one HTML page about what a spiking detector does in pictures, step by step.

    The page needs nothing else, not even a network connection: send it, or open it in a browser. A slider
    moves through the time steps, and shows boxes, spikes and feature maps of each; below are all layers,
    what the conversion did, and how the page was made.

    examples::

      sj-lowlat report photo.jpg
      sj-lowlat report runs/detect --output street.html
      sj-lowlat report a.jpg b.jpg --model runs/snn --schedule 16+4 --evaluation runs/evaluation.json

    :param pictures: 1 to 4 pictures, or the folder of sj-lowlat detect, whose network, settings and first 4
        pictures are taken; or a folder of pictures, of which the first 4 are taken
    :param options: how the network is run
    :param model: a network that ships with sj_lowlat (snn-tiny-yolov3-coco, the default,
        snn-yolo-fastest-xl-coco), or a folder that sj-lowlat convert or demo wrote
    :param output: the page, a file ending in .html
    :param evaluation: file of sj-lowlat evaluate --output with the same schedule, whose mAP curve the page
        then shows
    :param min_score: detections score more than this, in [0, 1]; by default 0.25, or that of the folder
    :param resize: letterbox keeps a picture's proportions; stretch fills the input; by default letterbox, or
        that of the folder
    """
    from dataclasses import replace

    from sj_lowlat.cli.options import check_output
    from sj_lowlat.cli.pictures import find_pictures
    from sj_lowlat.errors import InputError
    from sj_lowlat.report import MOST_PICTURES, recorded_run, recorded_scores, write_report

    if not output.endswith(".html"):
        raise InputError(f"output is {output}; give a file that ends in .html")
    recorded, files = None, [Path(picture) for picture in pictures]
    if len(files) == 1 and (files[0] / "detections.json").is_file():
        recorded = recorded_run(files[0])
        files = recorded.pictures[:MOST_PICTURES]
        if not files:
            raise InputError(f"{pictures[0]} holds no detections of pictures: give pictures")
        if options.schedule is None and recorded.schedule and model in (None, recorded.model):
            options = replace(options, schedule=str(recorded.schedule))
        if options.encoder == "constant":
            options = replace(options, encoder=recorded.settings.get("encoder", "constant"))
    elif len(files) == 1 and files[0].is_dir():
        files = [file for file, _ in find_pictures(files)][:MOST_PICTURES]
    before = recorded.settings if recorded else {}
    model = model or (recorded.model if recorded else "snn-tiny-yolov3-coco")
    check_output(Path(output), evaluation, *map(str, files))
    scores = recorded_scores(evaluation) if evaluation else None
    network, plan = options.open(model)
    if plan is None:
        raise InputError(
            f"{model} has no spiking neurons to report on: give one that sj-lowlat convert wrote"
        )
    if scores and scores.schedule != str(plan):
        raise InputError(
            f"{evaluation} scores the schedule {scores.schedule}, and the page would show {plan}: "
            f"give --schedule {scores.schedule}, or another evaluation"
        )
    path = write_report(
        output,
        network,
        files,
        plan,
        title=f"{Path(model).name} on {files[0].name}" + (" and others" if len(files) > 1 else ""),
        scores=scores.points if scores else (),
        scores_source=scores.source if scores else "",
        encoder=options.encoder,
        seed=options.seed,
        min_score=before.get("min_score", 0.25) if min_score is None else min_score,
        resize=resize or before.get("resize", "letterbox"),
        settings={"model": model, "pictures": ", ".join(file.name for file in files)}
        | ({"evaluation": Path(evaluation).name} if evaluation else {}),
    )
    print(f"{path}: open it in a browser")
