"""``sj-lowlat evaluate``."""

from __future__ import annotations

from typing import Literal


def run(
    model: str,
    data: str,
    schedule: str | None = None,
    time_steps: int | None = None,
    flush: int | None = None,
    levels: int | None = None,
    burst: int | None = None,
    readout: str | None = None,
    precision: Literal["fp32", "bf16", "int8"] = "fp32",
    mode: Literal["steps", "counts"] = "steps",
    stop: Literal["stable"] | None = None,
    stop_reads: int = 2,
    ann: str | None = None,
    size: int | None = None,
    batch_size: int = 1,
    protocol: Literal["coco", "voc07", "voc"] = "coco",
    limit: int | None = None,
    encoder: Literal["constant", "poisson"] = "constant",
    seed: int = 0,
    monitored: int = 16,
    output: str | None = None,
    device: str = "auto",
) -> None:
    """Score a network, spiking or not, on a labelled data set.

    examples::

      sj-lowlat evaluate --model runs/demo/snn --data traffic:100:1 --schedule 8+4 \\
        --readout 2,4,8,12 --ann runs/demo/ann --output runs/demo/snn/evaluation.json
      sj-lowlat evaluate --model yolov3-tiny.weights --data coco:instances_val2017.json:val2017 --size 416
      sj-lowlat evaluate --model snn-tiny-yolov3-coco --data traffic:20 --precision bf16 --stop stable
      sj-lowlat evaluate --model yolov3-tiny.weights --data voc:folder:test --protocol voc07

    :param model: the network that ships with sj_lowlat (snn-tiny-yolov3-coco), a folder that sj-lowlat wrote,
        or a darknet file (NET.weights or NET.cfg,NET.weights)
    :param data: coco:ANNOTATIONS.json:IMAGE_FOLDER, voc:FOLDER_ABOVE_VOCdevkit[:IMAGE_SET] or
        traffic[:COUNT[:SEED]]; classes are matched to the model's by name
    :param schedule: how a spiking network is run: 4+2b4 is 4 steps with input, 2 of flush (without input),
        bursts of up to 4 spikes; by default the network's own, else as many steps as it has levels
    :param time_steps: T, overrides the schedule's steps with input
    :param flush: overrides the schedule's steps without input
    :param levels: L, overrides the schedule's charge (input gain): the T steps carry the charge of L steps
    :param burst: overrides the schedule's burst, the most spikes of a neuron in one step
    :param readout: steps at which to score, such as 4,8,16, all from one simulation; by default the last one
    :param precision: of the weights of a spiking network's inner layers; spikes are exact in all of them
    :param mode: steps simulates the schedule; counts scores what signed neurons settle to, in one pass
    :param stop: stable ends the run of each image when its detections no longer change
    :param stop_reads: read-outs without a change that stop waits for
    :param ann: a network to score for comparison, in the forms of model; of a shipped one the quantised ANN
    :param size: side of the network's input in pixels; by default the model's
    :param batch_size: images per pass
    :param protocol: coco (mAP50 and mAP), voc07 (11-point) or voc (all-point)
    :param limit: score at most this many images, the first ones
    :param encoder: constant (the image is a current) or poisson (random spikes)
    :param seed: of the poisson encoder, and of a fresh network
    :param monitored: number of images, from the first, to count firing rates and energy on; 0 for none
    :param output: JSON file for all results
    :param device: auto (a GPU where there is one), cpu, cuda, cuda:1, ...
    """
    from sj_lowlat.cli.pictures import first_images
    from sj_lowlat.cli.running import find_schedule, whole_numbers
    from sj_lowlat.cli.sources import DATA_FORMS, open_data
    from sj_lowlat.conversion import set_precision
    from sj_lowlat.errors import InputError
    from sj_lowlat.evaluation import APResult, evaluate
    from sj_lowlat.files import write_json
    from sj_lowlat.record import table
    from sj_lowlat.zoo import open_network

    steps = whole_numbers(readout, "readout") if readout is not None else None
    dataset = first_images(open_data(data), limit)
    if not dataset.class_names:
        raise InputError(f"{data} has no boxes to score against: {DATA_FORMS.split(', or')[0]}")
    network = open_network(model, spiking=True, seed=seed, device=device)
    if precision != "fp32":
        network = set_precision(network, precision)
    plan = find_schedule(network, schedule, time_steps=time_steps, flush=flush, levels=levels, burst=burst)
    result = evaluate(
        network,
        dataset,
        plan,
        readout=steps,
        ann=open_network(ann, seed=seed, device=device) if ann is not None else None,
        size=size,
        batch_size=batch_size,
        protocol=protocol,
        encoder=encoder,
        seed=seed,
        monitored=monitored,
        mode=mode,
        stop=stop,
        stop_reads=stop_reads,
    )
    if output is not None:
        write_json(output, {"model": model, "data": data, "beside": ann, **result.to_json()})

    def cells(ap: APResult) -> list[str]:
        return [f"{100 * ap.map50:.2f}", "-" if ap.map is None else f"{100 * ap.map:.2f}"]

    rows = [["ANN" if p.steps is None else f"SNN, {p.steps} steps", *cells(p.ap)] for p in result.points]
    rows += [["ANN beside it", *cells(result.ann)]] if result.ann is not None else []
    print(f"{model} on {len(dataset)} images of {data} ({result.final.protocol}), in %")
    print(table(["network", "mAP50", "mAP"], rows))
    if result.mean_steps is not None:
        print(f"steps per image: {result.mean_steps:.2f}")
    if result.energy is not None:
        print(result.energy)
    if output is not None:
        print(f"results are in {output}")
