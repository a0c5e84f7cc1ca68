"""``sj-lowlat evaluate``."""

from __future__ import annotations

from typing import Literal

from sj_lowlat.cli.options import RunOptions
from sj_lowlat.cli.scores import ClassOptions


def run(
    model: str,
    data: str,
    options: RunOptions,
    classes: ClassOptions,
    readout: str | None = None,
    precision: Literal["fp32", "bf16", "int8"] = "fp32",
    mode: Literal["steps", "counts"] = "steps",
    stop: Literal["stable"] | None = None,
    stop_reads: int = 2,
    ann: str | None = None,
    size: int | None = None,
    resize: Literal["letterbox", "stretch"] = "letterbox",
    batch_size: int = 1,
    protocol: Literal["coco", "voc07", "voc"] = "coco",
    limit: int | None = None,
    monitored: int = 16,
    confidence: int = 0,
    output: str | None = None,
) -> int:
    """Score a network, spiking or not, on a labelled data set.

    A picture that cannot be read is reported and counts as one in which nothing is found; the exit code is
    then 1. With an output, what is found is kept beside it while the run lasts: to resume an interrupted run,
    give the same command again.

    Several processes share the images under torchrun --nproc-per-node N -m sj_lowlat evaluate ...

    examples::

      sj-lowlat evaluate --model runs/demo/snn --data traffic:100:1 --schedule 8+4 \\
        --readout 2,4,8,12 --ann runs/demo/ann --output runs/demo/snn/evaluation.json
      sj-lowlat evaluate --model yolov3-tiny.weights --data coco:instances_val2017.json:val2017 --size 416
      sj-lowlat evaluate --model snn-tiny-yolov3-coco --data traffic:20 --precision bf16 --stop stable
      sj-lowlat evaluate --model yolov3-tiny.weights --data voc:folder:test --protocol voc07
      sj-lowlat evaluate --model runs/snn --data traffic:200:1 --ann runs/quant --confidence 1000
      sj-lowlat evaluate --model runs/snn --data yolo:pets/data.yaml --per-class --plots runs/snn/scores

    :param model: a network that ships with sj_lowlat (snn-tiny-yolov3-coco, snn-yolo-fastest-xl-coco), a
        folder that sj-lowlat wrote, or a darknet file (NET.weights or NET.cfg,NET.weights[,NET.names]) or
        NET.onnx
    :param data: coco:ANNOTATIONS.json:IMAGE_FOLDER, voc:FOLDER_ABOVE_VOCdevkit[:IMAGE_SET],
        yolo:DATA.yaml[:IMAGE_SET] (also darknet's .data, or a folder; val if no set is named) or
        traffic[:COUNT[:SEED]]; classes are matched to the model's by name
    :param options: how the network is run
    :param classes: what is told of each class
    :param readout: steps at which to score, such as 4,8,16, all from one simulation; by default the last one
    :param precision: of the weights of a spiking network's inner layers; spikes are exact in all of them
    :param mode: steps simulates the schedule; counts scores what signed neurons settle to, in one pass
    :param stop: stable ends the run of each image when its detections no longer change
    :param stop_reads: read-outs without a change that stop waits for
    :param ann: a network to score for comparison, in the same formats as --model; of a shipped one the
        quantised ANN
    :param size: side of the network's input in pixels; by default the model's
    :param resize: letterbox keeps a picture's proportions; stretch fills the input, as AlexeyAB's darknet
        does in training (Yolo-Fastest, YOLOv4)
    :param batch_size: images per pass
    :param protocol: coco (mAP50 and mAP), voc07 (11-point) or voc (all-point)
    :param limit: score at most this many images, the first ones
    :param monitored: number of images, from the first, to count firing rates and energy on; 0 for none
    :param confidence: resamples of the images, such as 1000, for the 95 % interval of mAP50 and of its
        difference to that of ann; 0 for none
    :param output: JSON file for all results
    """
    import sys
    from pathlib import Path

    from sj_lowlat import distributed
    from sj_lowlat.cli.pictures import first_images
    from sj_lowlat.cli.sources import DATA_FORMS, open_data
    from sj_lowlat.conversion import set_precision
    from sj_lowlat.errors import InputError
    from sj_lowlat.evaluation import APResult, Difference, Interval, evaluate
    from sj_lowlat.files import write_json
    from sj_lowlat.progress import writing
    from sj_lowlat.record import table
    from sj_lowlat.zoo import open_network

    place = None if output is None else Path(output)
    if place is not None and place.is_dir():
        raise InputError(
            f"output is {place}, a folder: give a file in it, such as {place / 'evaluation.json'}"
        )
    classes.check()
    own = "" if distributed.is_main() else f".{distributed.rank()}"
    progress = place and place.with_suffix(f"{own}.unfinished.jsonl")
    try:
        steps = None if readout is None else [int(word) for word in readout.split(",")]
    except ValueError:
        raise InputError(f"readout is {readout!r}; give whole numbers with commas, such as 4,8,16") from None
    dataset = first_images(open_data(data), limit)
    if not dataset.class_names:
        raise InputError(f"{data} has no boxes to score against: {DATA_FORMS.split(', or')[0]}")
    network, plan = options.open(model)
    if precision != "fp32":
        network = set_precision(network, precision)
    try:
        result = evaluate(
            network,
            dataset,
            plan,
            readout=steps,
            ann=None if ann is None else open_network(ann, seed=options.seed, device=options.device),
            size=size,
            resize=resize,
            batch_size=batch_size,
            protocol=protocol,
            encoder=options.encoder,
            seed=options.seed,
            monitored=monitored,
            mode=mode,
            stop=stop,
            stop_reads=stop_reads,
            progress=progress,
            confidence=confidence,
            min_score=classes.min_score,
        )
    except KeyboardInterrupt as stopped:
        kept = "nothing is kept without --output"
        stopped.add_note(
            kept if progress is None else f"what was found is in {progress}; the same command goes on"
        )
        raise

    def cells(ap: APResult, interval: Interval | None, difference: Difference | None = None) -> list[str]:
        row = [f"{100 * ap.map50:.2f}", "-" if ap.map is None else f"{100 * ap.map:.2f}"]
        row += [] if interval is None else [interval.range]
        if confidence and result.ann is not None:
            row += (
                ["-"] * 2 if difference is None else [f"{100 * difference.estimate:+.2f}", difference.range]
            )
        return row

    head = ["network", "mAP50", "mAP"]
    if confidence:
        head += ["95 % of mAP50"] + (["less ANN", "95 % of that"] if result.ann is not None else [])
    rows = [[point.name, *cells(point.ap, point.interval, point.difference)] for point in result.points]
    if result.ann is not None:
        rows.append(["ANN beside it", *cells(result.ann, result.ann_interval)])
    print(f"{model} on {len(dataset)} images of {data} ({result.final.protocol}), in %")
    print(table(head, rows))
    classes.tell(result)
    if result.mean_steps is not None:
        print(f"steps per image: {result.mean_steps:.2f}")
    if result.energy is not None:
        print(result.energy)
    for failure in result.failed:
        print(failure["error"], file=sys.stderr)
    if result.failed:
        share = f"{len(result.failed)} of {len(dataset)} pictures cannot be read"
        print(f"{share}; nothing counts as found in them", file=sys.stderr)
    if distributed.is_main():
        short = ":".join(Path(word).name or word for word in data.split(":"))
        classes.draw(result, f"{Path(model).name} on {len(dataset)} images of {short}")
    if place is not None and progress is not None:
        if distributed.is_main():
            with writing(place):
                write_json(place, {"model": model, "data": data, "beside": ann, **result.to_json()})
        print(f"results are in {output}")
        progress.unlink(missing_ok=True)
    return 1 if result.failed else 0
