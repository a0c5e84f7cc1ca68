"""``sj-lowlat convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal


def run(
    model: str,
    output: str,
    neuron: Literal["signed", "residual-fix", "if", "imbalanced"] = "signed",
    ratio: float = 0.5,
    scale: str = "trained",
    per_channel: bool = False,
    calibration: str | None = None,
    calibration_images: int = 32,
) -> None:
    """Turn a trained network into a spiking one.

    examples::

      sj-lowlat convert --model runs/quant --output runs/snn
      sj-lowlat convert --model runs/ann --output runs/snn --neuron residual-fix --scale 99.9% \\
        --calibration traffic:64

    :param model: a folder that sj-lowlat finetune or demo wrote, a darknet file (NET.weights or
        NET.cfg,NET.weights), or the network that ships with sj_lowlat (snn-tiny-yolov3-coco)
    :param output: folder for the spiking network and conversion.json
    :param neuron: kind of the neurons; imbalanced is for leaky ReLU, and if starts at 0 (without the
        residual fix)
    :param ratio: membrane potential at the start, in thresholds; 0.5 is the residual fix
    :param scale: trained (the clips of quantised activations), or a statistic of calibration images: max,
        99.9%
    :param per_channel: one statistic per channel instead of one per layer
    :param calibration: data for a statistic, in the same forms as evaluate's data
    :param calibration_images: how many images of it are used
    """
    from sj_lowlat import checkpoint
    from sj_lowlat.cli.pictures import calibration_images as take
    from sj_lowlat.cli.running import about, check_output
    from sj_lowlat.cli.sources import open_data, open_model
    from sj_lowlat.convert import convert
    from sj_lowlat.files import write_json

    folder = Path(output)
    check_output(folder, model)
    ann = open_model(model)
    size = getattr(ann, "input_size", 416)
    images = take(open_data(calibration), calibration_images, size) if calibration is not None else None
    snn = convert(ann, neuron=neuron, scale=scale, per_channel=per_channel, ratio=ratio, calibration=images)
    report: Any = snn.conversion_report
    checkpoint.save(snn, folder)
    write_json(folder / "conversion.json", {"model": model, "report": report.to_json(), "settings": about()})
    print(f"{report}\n\nthe spiking network is in {output}")
