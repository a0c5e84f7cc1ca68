"""``sj-lowlat finetune``."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from sj_lowlat import checkpoint, distributed
from sj_lowlat.cli.options import check_output, finer_factors
from sj_lowlat.cli.pictures import calibration_images as take
from sj_lowlat.cli.sources import open_data
from sj_lowlat.cli.validation import ValidationOptions, draw_training, forget_best
from sj_lowlat.conversion import prepare, replace_layers
from sj_lowlat.errors import InputError
from sj_lowlat.files import read_json, write_json
from sj_lowlat.layers import is_spiking
from sj_lowlat.progress import one_run, writing
from sj_lowlat.training import FinetuneConfig, finetune
from sj_lowlat.zoo import find_device, open_network


def run(
    model: str,
    data: str,
    output: str,
    settings: FinetuneConfig,
    validation: ValidationOptions,
    teacher: str | None = None,
    replace: bool = False,
    only_activations: bool = False,
    levels: int | None = None,
    method: str | None = None,
    scale: str = "99.9%",
    equalise: bool = False,
    finer: str | None = None,
    headroom: int = 1,
    calibration_images: int = 32,
    restart: bool = False,
    device: str = "auto",
) -> None:
    """Train a network on labels, on a teacher's outputs, or on both.

    To resume an interrupted run, give the same command again; to extend a finished one, give it with more
    iterations. Several processes share the batches under
    torchrun --nproc-per-node N -m sj_lowlat finetune ...

    examples::

      sj-lowlat finetune --model snn-tiny-yolov3:width=0.25,input_size=160 --data traffic:600 --size 160 \\
        --iterations 700 --lr 3e-3 --output runs/ann
      sj-lowlat finetune --model runs/ann --levels 8 --teacher runs/ann --data traffic:600 --size 160 \\
        --iterations 250 --output runs/quant
      sj-lowlat finetune --model yolov3-tiny.weights --only-activations --teacher yolov3-tiny.weights \\
        --data pictures --size 416 --iterations 900 --lr 5e-4 --output runs/relu
      sj-lowlat finetune --model runs/relu --levels 8 --scale mse --equalise --teacher yolov3-tiny.weights \\
        --finer layers.0.act=4,layers.2.act=4 --data pictures --size 416 --iterations 2000 --lr 2.5e-4 \\
        --output runs/quant
      sj-lowlat finetune --model runs/ann --levels 8 --data yolo:pets/data.yaml --val yolo:pets/data.yaml \\
        --output runs/pets

    :param model: a folder that sj-lowlat wrote, a darknet file (NET.weights or
        NET.cfg,NET.weights[,NET.names]) or NET.onnx, a network that ships with sj_lowlat
        (snn-tiny-yolov3-coco, snn-yolo-fastest-xl-coco, as quantised ANN), or a fresh network
        (snn-tiny-yolov3, tiny-yolov3), which gets the classes of the data
    :param data: coco:ANNOTATIONS.json:IMAGE_FOLDER, voc:FOLDER_ABOVE_VOCdevkit[:IMAGE_SET],
        yolo:DATA.yaml[:IMAGE_SET] (also darknet's .data, or a folder; train if no set is named),
        traffic[:COUNT[:SEED]], or a folder of pictures, which is enough with a teacher
    :param output: folder for the trained network, checkpoint, logs and the curve of the loss (loss.png)
    :param settings: of the training
    :param validation: while training
    :param teacher: a network to learn from, in the same formats as --model; with labelled data the
        distillation loss is added to the detection loss
    :param replace: first replace leaky activations, max-pools and upsampling, fitted to images of the data,
        as in the paper
    :param only_activations: first replace leaky activations only; max-pools stay, as convert can handle them
    :param levels: L, first quantise the activations to L levels, the time steps of the later spiking network
    :param method: of the later conversion (see convert), where it trains a network without
        levels: cao, rate-norm
    :param scale: initial clips: max, a percentage such as 99.9%, or mse (least square error)
    :param equalise: before quantising, equalise channel ranges by moving their differences into the weights
    :param finer: activations that get a multiple of the levels, such as layers.0.act=4,layers.2.act=4
    :param headroom: clips and levels times this: large activations, which are few, are not cut off
    :param calibration_images: number of images of the data that replace and levels use
    :param restart: start over, even if the output folder holds a checkpoint
    :param device: auto (a GPU where there is one), cpu, cuda, cuda:1, ...
    """
    setup = {k: v for k, v in locals().items() if k not in ("output", "settings", "restart", "device")}
    setup["validation"] = validation.setup()
    folder = Path(output)
    check_output(folder, model, teacher)
    dataset = open_data(data, "train")
    student = open_network(model, class_names=dataset.class_names, seed=settings.seed, device=device)
    if is_spiking(student):
        raise InputError(f"{model} is a spiking network: finetune the network that it was converted from")
    guide = open_network(teacher, device=device) if teacher is not None else None
    factors = finer_factors(finer)
    scored = validation.open(student, folder / "best", settings)
    main = distributed.is_main()
    with one_run(folder) if main else nullcontext():
        if main:
            _claim(folder, setup, settings, restart)
        distributed.gathered(None)  # the others look into the folder afterwards
        if replace or only_activations or levels is not None or method is not None:
            images = take(dataset, calibration_images, max(settings.sizes)).to(find_device(device))
            if replace or only_activations:
                student = replace_layers(
                    student, images, calibration_images=calibration_images, only_activations=only_activations
                )
            if levels is not None or method is not None:
                options: dict[str, Any] = {"scale": scale, "equalise": equalise}
                options |= {"finer": factors, "headroom": headroom}
                student = prepare(student, levels, images, method=method, **options)
        print(f"training {model} on {len(dataset)} images, {settings.iterations} steps", flush=True)
        try:
            finetune(student, dataset, guide, settings, folder, validation=scored)
        except KeyboardInterrupt as stopped:
            stopped.add_note("the same command goes on from the last step that is in checkpoint.pt")
            raise
        if not main:
            return
        checkpoint.save(student, folder)
        draw_training(folder, f"{Path(model).name} on {len(dataset)} images")
    record = json.loads((folder / "finetune.json").read_text(encoding="utf-8"))
    print(f"last loss {record['losses']['total']:.4g}; the trained network is in {output}")
    if scored and (end := record.get("validation")):
        print(validation.sentence(end, folder / "best"))


def _claim(folder: Path, setup: dict[str, Any], settings: FinetuneConfig, restart: bool) -> None:
    """Write down what the folder is for; refuse to resume a checkpoint of another run."""
    place, begun = folder / "setup.json", folder / "checkpoint.pt"
    if restart:
        begun.unlink(missing_ok=True)
        forget_best(folder / "best")
    if place.exists() and begun.exists():
        saved = read_json(place, "what finetune wrote, or --restart to start over")
        if not isinstance(saved, dict):
            raise InputError(f"{place} is damaged: give --restart to start over")
        for name, value in setup.items():
            if saved.get(name) != value:
                other = f"{folder} holds a run whose {name} is {saved.get(name)!r}, this one's is {value!r}"
                raise InputError(f"{other}: give another output folder, or --restart to start over")
    with writing(place):
        write_json(place, {**setup, "settings": settings.to_json()})
