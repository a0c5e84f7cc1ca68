"""``sj-lowlat export``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def run(
    model: str,
    output: str,
    format: Literal["onnx", "onnx-step", "integers", "nir"] = "onnx",
    schedule: str | None = None,
) -> None:
    """Write a network as ONNX, as whole numbers or as NIR, for other programs.

    The float or Quant ANN as ONNX, checked in onnxruntime; one time step of the spiking network as ONNX, with
    its states as inputs and outputs; the spiking network as whole numbers (NAME.npz and NAME.json), or, with
    plain neurons, as a NIR graph. All but single steps can be given as --model to other verbs.

    examples::

      sj-lowlat export --model runs/quant --format onnx --output quant.onnx
      sj-lowlat export --model snn-tiny-yolov3-coco --format onnx-step --output step.onnx
      sj-lowlat export --model snn-tiny-yolov3-coco --format integers --output tiny.npz
      sj-lowlat export --model runs/plain --format nir --schedule 16+0c16 --output plain.nir

    :param model: a network by one word, as for convert; of one that ships, format onnx takes the Quant ANN
    :param output: the file: NAME.onnx, NAME.npz or NAME.nir
    :param format: onnx, onnx-step, integers or nir
    :param schedule: for all but onnx: how the network is run, such as 4+2b4; by default its own
    """
    import torch

    from sj_lowlat import export
    from sj_lowlat.errors import InputError
    from sj_lowlat.network import info_of
    from sj_lowlat.zoo import open_network

    network = open_network(model, spiking=format != "onnx")
    if format == "integers":
        path = export.write_integers(network, output, schedule)
        print(f"{path} and {path.with_suffix('.json').name} hold the network in whole numbers")
        return
    if format == "nir":
        print(f"{export.write_nir(network, output, schedule)} holds the network as a NIR graph")
        return
    if format == "onnx-step":
        print(f"{export.write_onnx_step(network, output, schedule)} holds one time step of the network")
        return
    if schedule is not None:
        raise InputError("a schedule is for a spiking network: the ANN of --format onnx has no steps")
    path = export.write_onnx(network, output)
    shape = info_of(network).input_shape or (3, 416, 416)
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = network(images)
    ours = [ours] if isinstance(ours, torch.Tensor) else list(ours)
    apart = torch.cat(
        [(a - b).abs().flatten() for a, b in zip(ours, export.run_onnx(path, images), strict=True)]
    )
    share = float((apart > 1e-3).float().mean())
    print(f"{Path(path)} is written; onnxruntime, on two random images: {100 * share:.2f}% of all outputs")
    print("differ by more than 0.001 (sums in another order may cross a border between two levels)")
