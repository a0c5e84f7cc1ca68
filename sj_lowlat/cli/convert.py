"""``sj-lowlat convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal


def run(
    model: str,
    output: str,
    levels: int | Literal["auto"] | None = None,
    finer: str | None = None,
    headroom: int = 1,
    budget: float | None = None,
    method: str | None = None,
    neuron: Literal[
        "signed",
        "residual-fix",
        "if",
        "imbalanced",
        "hard-reset",
        "srp",
        "cos",
        "multi-threshold",
        "differential",
    ]
    | None = None,
    ratio: float | None = None,
    scale: str | None = None,
    per_channel: bool = False,
    sums: Literal["rescale", "tie", "neuron"] = "rescale",
    linear_neurons: bool = False,
    calibration: str | None = None,
    calibration_images: int = 32,
    time_steps: int = 32,
    schedule: str | None = None,
) -> None:
    """Turn a trained network into a spiking one.

    With levels, a network that is not quantised is quantised first and converted without any training; its
    leaky activations and max-pools stay.

    examples::

      sj-lowlat convert --model yolov3-tiny.weights --levels 16 --calibration my/photos \\
        --schedule 4+4b4 --output runs/snn
      sj-lowlat convert --model runs/quant --output runs/snn
      sj-lowlat convert --model runs/ann --output runs/snn --neuron residual-fix --scale 99.9% \\
        --calibration traffic:64
      sj-lowlat convert --model yolov3-tiny.weights --method spiking-yolo --calibration my/photos \\
        --output runs/spiking-yolo

    :param model: a folder that sj-lowlat finetune or demo wrote, a darknet file (NET.weights or
        NET.cfg,NET.weights[,NET.names]) or NET.onnx, or a network that ships with sj_lowlat
        (snn-tiny-yolov3-coco, snn-yolo-fastest-xl-coco)
    :param output: folder for the spiking network and conversion.json
    :param levels: L, first quantise the activations to L levels (most spikes of a neuron for an image; auto:
        as many as each needs, for about the spikes of 32 everywhere, or of --budget), with
        clips of least square error and channels of equal range
    :param finer: with levels: activations that get a multiple of the levels, such as layers.0.act=2
    :param headroom: with levels: clips and levels times this: large activations, which are few, are not cut
        off; 4 makes a network that is not trained far better
    :param budget: with levels: choose the multiples by calibration images, for about the spikes of so many
        levels everywhere: --levels 16 --budget 32, which is --levels auto
    :param method: a published method, which gives neurons, scales, start, corrections and schedule: cao,
        diehl, rueckauer, spike-norm, spiking-yolo, rate-norm, calibration-light, calibration-advanced, qcfs,
        srp, cos, fast-snn, burst, group, multi-threshold, differential, wait, bit-serial, graded,
        powers-of-two, single-spike, signed, residual-fix, if, imbalanced
    :param neuron: instead of a method the kind of the neurons, by default signed: signed and imbalanced can
        replace leaky ReLU; "if" is plain IF, which starts at 0 (without the residual fix); so does
        hard-reset, which loses what a spike leaves of V; srp and cos correct their start after the pre-steps
        of a schedule such as 16+0p8
    :param ratio: initial membrane potential in thresholds; by default 0.5, the residual fix, or the method's
    :param scale: trained (the clips of quantised activations), or a statistic of calibration images: max,
        99.9%; by default the method's, or trained. With levels, trained means the clips of least square error
    :param per_channel: per-channel scales instead of one per layer; networks with depthwise convolutions,
        which need them, get them anyway
    :param sums: with levels, how spikes of two branches add: rescale (a factor each), tie (one clip for
        both, so that their sum is a whole number), neuron (the sum is quantised once more)
    :param linear_neurons: with levels, neurons also behind layers without an activation
    :param calibration: data for levels or a statistic, in the same formats as finetune --data
    :param calibration_images: number of calibration images that are used
    :param time_steps: of the runs that a method's corrections are made for
    :param schedule: how the spiking network is to be run, kept with it: 4+2b4 is 4 steps with input, 2 of
        flush, bursts of up to 4 spikes; by default that of the method or of the network that came; signed
        neurons with levels get 1+1 and bursts of twice the levels: the answer in 2 steps
    """
    from sj_lowlat import checkpoint
    from sj_lowlat.cli.options import check_output, finer_factors
    from sj_lowlat.cli.pictures import calibration_images as take
    from sj_lowlat.cli.sources import open_data
    from sj_lowlat.conversion import convert, prepare
    from sj_lowlat.conversion.fold import has_depthwise
    from sj_lowlat.errors import InputError
    from sj_lowlat.files import write_json
    from sj_lowlat.network import info_of
    from sj_lowlat.progress import one_run
    from sj_lowlat.record import provenance
    from sj_lowlat.schedule import Schedule
    from sj_lowlat.zoo import open_network

    folder = Path(output)
    check_output(folder, model)
    plan = None if schedule is None else Schedule.parse(schedule)
    with one_run(folder):
        ann = open_network(model)
        size = info_of(ann).size or 416
        images = (
            take(open_data(calibration, "train"), calibration_images, size)
            if calibration is not None
            else None
        )
        if levels is not None:
            ann = prepare(
                ann,
                levels,
                images,
                scale="mse" if scale in (None, "trained") else scale,
                per_channel=per_channel or None,
                equalise=not (per_channel or has_depthwise(ann)),
                finer=finer_factors(finer),
                headroom=headroom,
                budget=budget,
                sums=sums,
                linear_neurons=linear_neurons,
            )
            scale = None
        elif finer is not None or budget is not None or headroom != 1:
            given = f"finer is {finer!r}, headroom {headroom} and budget {budget!r}"
            raise InputError(f"{given} without levels: give --levels too")
        snn = convert(
            ann,
            method=method,
            neuron=neuron,
            scale=scale,
            per_channel=per_channel or None,
            ratio=ratio,
            calibration=images,
            time_steps=time_steps,
        )
        found = info_of(snn).levels
        if found and method is None and neuron in (None, "signed") and info_of(ann).schedule is None:
            snn.schedule = Schedule(1, 1, 2 * found)
        snn.schedule = plan or snn.schedule
        report: Any = snn.conversion_report
        checkpoint.save(snn, folder)
        write_json(
            folder / "conversion.json", {"model": model, "report": report.to_json(), "settings": provenance()}
        )
    print(f"{report}\n\nthe spiking network is in {output}")
    if (own := snn.schedule) is not None:
        most = "single spikes" if own.burst == 1 else f"up to {own.burst} spikes of a neuron in a step"
        print(f"it runs {own} where no other schedule is given: {own.total} steps, {most}")
