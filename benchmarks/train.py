"""Train the networks of the tables: stages of a plan (configs/*.json), or without training; pack what ships.

    python benchmarks/train.py distil --data ../shared/data --output runs/coco     # the paper's network
    python benchmarks/train.py distil --data ../shared/data --photos ../shared/data/photos \\
      --output runs/ship --plan benchmarks/configs/snn_tiny_yolov3_coco.json
    python benchmarks/train.py low-light --network runs/spikes/ann --output runs/spikes
    python benchmarks/train.py prepare --data ../shared/data --output runs/untrained --levels 8 16 32
    python benchmarks/train.py pack --plan benchmarks/configs/snn_tiny_yolov3_coco.json \\
      --network runs/ship/quant16

Stages start from the one before, or from that named ``from``; those that are done are skipped, and an
interrupted one resumes. distil:
``replace -> finetune -> prepare -> finetune`` from the darknet weights, which also teach, without labels.
low-light: ``finetune -> prepare -> finetune`` from the network that was trained on traffic in daylight.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from clips import DimTraffic
from inputs import calibration_images, spaced, stacked
from runner import HERE
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, Subset

from sj_lowlat import checkpoint, pretrained
from sj_lowlat.conversion import prepare, replace_layers
from sj_lowlat.data import ImageFolderDataset, Sample, VocDataset
from sj_lowlat.models import tiny_yolov3
from sj_lowlat.network import info_of
from sj_lowlat.training import FinetuneConfig, finetune
from sj_lowlat.zoo import find_device, open_network

WEIGHTS = HERE.parent / "sj_lowlat" / "weights"
FINER = {"layers.0.act": 2, "layers.2.act": 2, "layers.4.act": 2}  # of networks without training


class Pictures(ConcatDataset):
    """The pictures of several datasets, without their labels."""

    class_names: tuple[str, ...] = ()

    def __getitem__(self, index: int) -> Sample:
        picture, none = super().__getitem__(index), torch.zeros(0, dtype=torch.bool)
        labels = torch.zeros(0, dtype=torch.int64)
        return Sample(picture.image, torch.zeros(0, 4), labels, none, none, picture.image_id)


class Some(Subset):
    """Some of them."""

    class_names: tuple[str, ...] = ()


def training_pictures(data: Path, photos: Sequence[Path]) -> Pictures:
    """Those of the data's folder, packed by ``gpu.py`` or not, and of more folders."""
    more = [ImageFolderDataset(folder) for folder in photos]
    if (data / "pictures").exists():
        return Pictures([ImageFolderDataset(data / "pictures"), *more])
    coco, voc = (
        ImageFolderDataset(data / "coco-subset" / "train2017"),
        VocDataset(data / "voc-subset", "trainval"),
    )
    return Pictures([coco, voc, *more])


def run_stages(
    args: argparse.Namespace,
    plan: Mapping[str, Any],
    data: Any,
    start: Callable[[], nn.Module],
    calibration: Callable[[], Tensor],
    teacher: nn.Module | None = None,
) -> None:
    """Run the stages of a plan.

    :param args: ``output`` gets a folder for each stage; ``shorten`` divides iterations; ``workers``
    :param start: gives the first stage's network
    :param calibration: gives images for the clips, on the network's device
    :param teacher: if there is none, the network before rounding teaches the rounded one
    """
    network, own = None, teacher is None
    for stage in plan["stages"]:
        options = {**plan["finetune"], **stage, "workers": args.workers}
        folder, levels = args.output / options.pop("name"), options.pop("levels", None)
        method, before = options.pop("method", None), options.pop("from", None)
        options["iterations"] = max(1, options["iterations"] // args.shorten)
        if (folder / checkpoint.CONFIG).exists():
            print(f"{folder}: done before", flush=True)
            network = checkpoint.load(folder).to(find_device("auto"))
            continue
        if before is not None:
            network = checkpoint.load(args.output / before).to(find_device("auto"))
        network = start() if network is None else network
        if method is not None:
            network = prepare(network, calibration=calibration(), method=method)
        elif levels is not None:
            teacher = copy.deepcopy(network) if own else teacher
            fresh = info_of(network).levels is None
            network = prepare(network, levels, calibration(), **plan.get("prepare", {}) if fresh else {})
        config = FinetuneConfig(**options)
        print(f"{folder}: {config}", flush=True)
        finetune(network, data, teacher, config, output=folder)
        checkpoint.save(network, folder)


def distil(args: argparse.Namespace, plan: dict[str, Any]) -> None:
    """From the weights of the plan's ``network``, which has ``DATA`` for the data's folder; its ``replace``:
    null keeps leaky ReLUs and max-pools."""
    device = find_device("auto")
    word = plan.get("network", "DATA/darknet/yolov3-tiny.weights").replace("DATA", str(args.data))
    teacher = open_network(word).to(device)
    pictures: Any = training_pictures(args.data, args.photos)
    images = stacked(pictures, plan["calibration_images"], plan["calibration_size"]).to(device)
    replaced = plan.get("replace", {})
    if args.pictures:
        pictures = Some(pictures, spaced(len(pictures), args.pictures))

    def start() -> nn.Module:
        return copy.deepcopy(teacher) if replaced is None else replace_layers(teacher, images, **replaced)

    run_stages(args, plan, pictures, start, lambda: images, teacher)


def low_light(args: argparse.Namespace, plan: dict[str, Any]) -> None:
    """The traffic network of Table 3, on means of few frames, down to rates of 2 %."""
    device, data = find_device("auto"), DimTraffic(**plan["data"])
    plan["finetune"] = {"size": data.size, **plan["finetune"]}
    run_stages(
        args,
        plan,
        data,
        lambda: checkpoint.load(args.network).to(device),
        lambda: stacked(data, plan["calibration_images"], data.size).to(device),
    )


def prepare_only(args: argparse.Namespace) -> None:
    """Quant ANNs of the darknet weights without any training, one for each number of levels."""
    teacher = tiny_yolov3(weights=args.data / "darknet" / "yolov3-tiny.weights").eval()
    photos = calibration_images(args.data, args.calibration, args.size)
    for levels in args.levels:
        quant = prepare(teacher, levels, photos, scale="mse", equalise=True, finer=FINER)
        print(checkpoint.save(quant, args.output / f"quant{levels}"))


def pack(args: argparse.Namespace) -> None:
    """Pack a trained Quant ANN into the one file that ships, read it back, say what the rounding did."""
    network, card = checkpoint.load(args.network), json.loads(args.plan.read_text(encoding="utf-8"))["card"]
    schedule = card["schedule"] = args.schedule or card["schedule"]
    path = args.output or WEIGHTS / (card.pop("name") + pretrained.SUFFIX)
    command = "python benchmarks/train.py distil --data DATA --photos DATA/photos --output runs/ship"
    card["command"] = f"{command} --plan benchmarks/configs/{args.plan.name}"
    pretrained.pack(network, path, card)
    before, after = network.state_dict(), pretrained.unpack(path).state_dict()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    square = sum(float((after[name] - before[name]).square().sum()) for name in changed)
    whole = sum(float(before[name].square().sum()) for name in changed)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, schedule {schedule}")
    print(f"{len(changed)} of {len(before)} tensors rounded, relative error {(square / whole) ** 0.5:.2e}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run one of the four commands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, run: Callable[..., None], output: str | None) -> Callable[..., Any]:
        own = commands.add_parser(name, help=run.__doc__)
        own.set_defaults(run=run)
        own.add_argument("--output", type=Path, default=output and Path(output))
        return own.add_argument

    for name, run, output, plan in (
        ("distil", distil, "runs/coco", "coco_distil"),
        ("low-light", low_light, "runs/spikes", "low_light"),
    ):
        add = command(name, run, output)
        add("--plan", type=Path, default=HERE / "configs" / f"{plan}.json")
        add("--shorten", type=int, default=1, help="a trial: every stage's iterations over N")
        add("--workers", type=int, default=0, help="processes that prepare batches ahead")
        if name == "distil":
            add("--data", type=Path, required=True, help="folder with darknet, coco-subset, voc-subset")
            add("--photos", type=Path, nargs="+", default=[], help="folders with more pictures")
            add("--pictures", type=int, help="train on so many of all pictures, evenly spaced")
        else:
            add("--network", type=Path, required=True, help="folder of the network trained in daylight")
    add = command("prepare", prepare_only, "runs/untrained")
    add("--data", type=Path, required=True, help="folder with darknet and coco-subset")
    add("--levels", type=int, nargs="+", default=[8, 16, 32])
    add("--calibration", type=int, default=64, help="training photos for the clips")
    add("--size", type=int, default=416)
    add = command("pack", pack, None)
    add("--plan", type=Path, required=True, help="the plan that trained it, whose card goes along")
    add("--network", type=Path, required=True, help="folder of the Quant ANN")
    add("--schedule", help="how the spiking network is meant to be run, instead of the card's")
    args = parser.parse_args(argv)
    if args.run is not pack and "plan" in args:
        args.run(args, json.loads(args.plan.read_text(encoding="utf-8")))
    else:
        args.run(args)


if __name__ == "__main__":
    main()
