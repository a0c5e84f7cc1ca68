"""A detector that is trained as a spiking network: STDP without labels, then surrogate gradients.

    python benchmarks/stdp_detector.py train --data ../shared/data --output runs/stdp
    python benchmarks/stdp_detector.py filters --features runs/stdp/features
    python benchmarks/stdp_detector.py score --data ../shared/data --network runs/stdp/t32/snn --images 100

The network is ``snn_tiny_yolov3`` with plain IF neurons. Its first layers learn by STDP (``stdp.py``), layer
by layer, and stay as they are; the others learn from the darknet network's heads, through T steps with
surrogate gradients, in the stages of a plan (configs/stdp_detector.json). What is done is skipped, and an
interrupted stage resumes; a plan with more stages behind those that are done goes on from them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from direct_snn import DirectSNN
from inputs import fingerprint, open_network, open_photos
from runner import HERE, Runs, markdown, save_figure, save_results
from stdp_features import first_filters, learn_features
from torch import Tensor, nn
from train import Pictures

from sj_lowlat import checkpoint
from sj_lowlat.data import ImageFolderDataset, VocDataset
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation import evaluate
from sj_lowlat.files import atomic_write, read_json, write_json
from sj_lowlat.models import snn_tiny_yolov3
from sj_lowlat.plots import plot_map_curve
from sj_lowlat.plots.style import new_figure
from sj_lowlat.record import provenance
from sj_lowlat.training import FinetuneConfig, finetune
from sj_lowlat.zoo import find_device

STEPS = (8, 16, 32, 64, 128, 300)


def train_detector(
    plan: Mapping[str, Any],
    pictures: Any,
    output: Path,
    teacher: nn.Module | None = None,
    **run: Any,
) -> Path:
    """STDP, then the stages of the plan.

    :param plan: ``width``, ``size``, ``features``, ``stages`` and ``finetune``
    :param pictures: a detection dataset; STDP does not read its labels
    :param output: gets a folder for the features and for each stage
    :param run: changes to the options of ``finetune``
    :return: folder of the last spiking network; ``training.json`` beside it tells the seconds of every stage
    :raises InputError: if the features in ``output`` are of another plan
    """
    classes = tuple(pictures.class_names) or None
    options = {"num_classes": len(classes or ()) or 80, "width": plan["width"], "class_names": classes}
    torch.manual_seed(plan["features"]["seed"])  # of the first weights of all other layers
    settings = plan["features"]
    model = DirectSNN({**options, "input_size": plan["size"]}, settings["layers"], settings["time_steps"])
    model.to(find_device("auto"))
    features, seconds = output / "features", {}
    if (features / "features.json").exists():
        record = read_json(features / "features.json", "a folder of train")
        if record["settings"] != settings or record["options"] != json.loads(json.dumps(model.options)):
            raise InputError(f"{features} is of another plan: give that plan, or another output")
        model.load_state_dict(torch.load(features / "state.pt", weights_only=True))
    else:
        started = time.perf_counter()
        layers = learn_features(model, pictures, settings, plan["size"])
        with atomic_write(features / "state.pt") as temporary:
            torch.save(model.state_dict(), temporary)
        record = {"layers": layers, "settings": settings, "options": model.options}
        record |= {"seconds": round(time.perf_counter() - started, 1), **provenance(settings["seed"])}
        write_json(features / "features.json", record)
    seconds["features"] = record["seconds"]
    folder = features
    for stage in plan["stages"]:
        changes = {**plan["finetune"], **stage, **run}
        name, model.time_steps = changes.pop("name"), changes.pop("time_steps")
        folder, config = output / name, FinetuneConfig(**changes)
        print(f"{folder}: T = {model.time_steps}, {config}", flush=True)
        finetune(model, pictures, teacher, config, output=folder)
        checkpoint.save(model.spiking(), folder / "snn")
        seconds[name] = read_json(folder / "finetune.json", "a folder of train")["seconds"]
        write_json(folder / "training.json", {"plan": plan, "images": len(pictures), "seconds": seconds})
    return folder / "snn"


def train(args: argparse.Namespace) -> None:
    """Train from random weights, without labels: the darknet network teaches what STDP does not."""
    plan = json.loads(args.plan.read_text(encoding="utf-8"))
    plan["features"]["batches"] = max(1, plan["features"]["batches"] // args.shorten)
    for stage in plan["stages"]:
        stage["iterations"] = max(1, stage["iterations"] // args.shorten)
    coco, more = args.data / "coco-subset" / "train2017", map(ImageFolderDataset, args.photos)
    pictures = Pictures([ImageFolderDataset(coco), VocDataset(args.data / "voc-subset", "trainval"), *more])
    teacher = open_network(str(args.data / "darknet" / "yolov3-tiny.weights")).to(find_device("auto"))
    print(train_detector(plan, pictures, args.output, teacher, workers=args.workers))


def score(args: argparse.Namespace) -> None:
    """mAP50 at every read-out of one run of T steps."""
    photos = open_photos("coco", args.data).spaced(args.images)
    last, spec = max(args.steps), str(args.network)
    options = {"readout": sorted(args.steps), "size": args.size, "batch_size": args.batch_size}
    request = {"network": spec, "weights": fingerprint(spec), "photos": photos.label, **options}

    def work() -> dict[str, Any]:
        network = checkpoint.load(args.network).to(find_device("auto"))
        return evaluate(network, photos.dataset, last, **options).to_json()

    training = read_json(args.network.parent / "training.json", "a network of train")
    hours = sum(training["seconds"].values()) / 3600
    record = Runs(args).once(f"STDP T={last}", request, work)
    points = [(point["steps"], 100 * point["map50"]) for point in record["points"]]
    print(f"{photos.label}, {args.size} px; {hours:.1f} hours of training")
    print(markdown(("steps", "mAP50"), [(str(steps), f"{value:.2f}") for steps, value in points]))
    save_results(args.results, {"training": training, "runs": {"STDP": {**record, "rates": None}}})
    save_figure(plot_map_curve({"STDP and surrogate gradients": points}), args.figure)


def draw_filters(args: argparse.Namespace) -> None:
    """The filters of stage 1, each layer's before (above) and after (below)."""
    record = read_json(args.features / "features.json", "a folder 'features' of train")
    state = torch.load(args.features / "state.pt", weights_only=True)
    network, settings = snn_tiny_yolov3(**record["options"]), record["settings"]
    strips = {}
    for layer in range(settings["layers"]):
        learnt = state[f"network.layers.{layer}.conv.weight"]
        first = first_filters(network.layers[str(layer)].conv, settings, layer).weight
        for when, filters in (("before", first), ("after", learnt)):
            strips[f"layer {layer}, {when}"] = strip(filters / learnt.abs().max())
    ratios = [len(picture) for picture in strips.values()]
    figure = new_figure(5.0, 0.5 * len(strips) + 0.06 * sum(ratios))
    places = figure.subplots(len(strips), 1, height_ratios=ratios)
    for axes, (title, picture) in zip(places, strips.items(), strict=True):
        axes.imshow(picture, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(title, loc="left", fontsize="small")
    names = [name for name in record["layers"][0] if name != "shares"]
    rows = [
        (*(str(layer[name]) for name in names), " to ".join(f"{f(layer['shares']):.3f}" for f in (min, max)))
        for layer in record["layers"]
    ]
    print(markdown((*(name.replace("_", " ") for name in names), "shares of spikes"), rows))
    save_figure(figure, args.figure)


def strip(filters: Tensor) -> Any:
    """Filters ``[F, C, k, k]`` of values in [-1, 1] side by side, ``[H, W, 3]``: in colour where C is 3, else
    their channels one below the other."""
    tiles = (filters / 2 + 0.5).clamp(0, 1)
    tiles = tiles[:, None] if tiles.shape[1] == 3 else tiles[:, :, None].expand(-1, -1, 3, -1, -1)
    framed = F.pad(tiles, [1] * 4, value=1.0)  # [F, rows, 3, k + 2, k + 2]
    return framed.permute(1, 3, 0, 4, 2).flatten(2, 3).flatten(0, 1).numpy()  # [H, W, 3]


def main(argv: Sequence[str] | None = None) -> None:
    """Run one of the three commands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(run: Callable[[argparse.Namespace], None], name: str) -> Callable[..., Any]:
        own = commands.add_parser(name, help=run.__doc__)
        own.set_defaults(run=run)
        return own.add_argument

    images = HERE.parent / "docs" / "images"
    add = command(train, "train")
    add("--data", type=Path, required=True, help="folder with darknet, coco-subset, voc-subset")
    add("--output", type=Path, default=Path("runs/stdp"))
    add("--plan", type=Path, default=HERE / "configs" / "stdp_detector.json")
    add("--photos", type=Path, nargs="+", default=[], help="folders with more pictures")
    add("--shorten", type=int, default=1, help="a trial: iterations and batches over N")
    add("--workers", type=int, default=0, help="processes that prepare batches ahead")
    add = command(score, "score")
    add("--data", type=Path, required=True, help="folder with coco-subset")
    add("--network", type=Path, default=Path("runs/stdp/t32/snn"))
    add("--steps", type=int, nargs="+", default=list(STEPS), help="read-outs; the last is T")
    add("--images", type=int, help="score only so many images, evenly spaced over the set")
    add("--size", type=int, default=192, help="side of the network's input in pixels")
    add("--batch-size", type=int, default=1)
    add("--output", type=Path, default=Path("runs/stdp_detector"), help="gets a JSON file for each run")
    add("--results", type=Path, default=HERE / "results" / "stdp_detector.json")
    add("--figure", type=Path, default=images / "stdp_detector.png")
    add = command(draw_filters, "filters")
    add("--features", type=Path, default=Path("runs/stdp/features"))
    add("--figure", type=Path, default=images / "stdp_filters.png")
    args = parser.parse_args(argv)
    args.run(args)


if __name__ == "__main__":
    main()
