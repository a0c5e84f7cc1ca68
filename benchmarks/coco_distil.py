"""Distil layer-replaced, quantised tiny YOLOv3 networks from the darknet weights, without labels.

``replace -> finetune -> prepare -> finetune``, one stage after another as the config says; every stage starts
from the one before it. Stages that are done are skipped and an interrupted one resumes.

    python benchmarks/coco_distil.py --data ../shared/data --output runs/coco
    python benchmarks/coco_distil.py --data ../shared/data --output runs/ship \\
      --plan benchmarks/configs/snn_tiny_yolov3_coco.json
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from sj_lowlat import checkpoint
from sj_lowlat.conversion import prepare, replace_layers
from sj_lowlat.data import ImageFolderDataset, Sample, VocDataset, letterbox
from sj_lowlat.models import tiny_yolov3
from sj_lowlat.training import FinetuneConfig, finetune


class Pictures:
    """The pictures of several datasets, without their labels."""

    class_names: tuple[str, ...] = ()

    def __init__(self, *datasets: ImageFolderDataset | VocDataset) -> None:
        self.places = [(dataset, i) for dataset in datasets for i in range(len(dataset))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Sample:
        dataset, i = self.places[index]
        sample = dataset[i]
        nothing = torch.zeros(0, dtype=torch.bool)
        return Sample(
            sample.image,
            torch.zeros(0, 4),
            torch.zeros(0, dtype=torch.int64),
            nothing,
            nothing,
            sample.image_id,
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Run all stages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with darknet, coco-subset and voc-subset"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/coco"))
    parser.add_argument("--plan", type=Path, default=Path(__file__).parent / "configs" / "coco_distil.json")
    parser.add_argument("--shorten", type=int, default=1, help="a trial: every stage's iterations over N")
    args = parser.parse_args(argv)
    plan = json.loads(args.plan.read_text())
    device = "cuda" if torch.cuda.is_available() else "cpu"

    teacher = tiny_yolov3(weights=args.data / "darknet" / "yolov3-tiny.weights").to(device).eval()
    pictures = Pictures(
        ImageFolderDataset(args.data / "coco-subset" / "train2017"),
        VocDataset(args.data / "voc-subset", image_set="trainval"),
    )
    count, size = plan["calibration_images"], plan["calibration_size"]
    chosen = torch.linspace(0, len(pictures) - 1, count).long().tolist()
    calibration = torch.stack([letterbox(pictures[i].image, size)[0] for i in chosen]).to(device)

    student = None
    for stage in plan["stages"]:
        options = dict(stage)
        options["iterations"] = max(1, options["iterations"] // args.shorten)
        folder, levels = args.output / options.pop("name"), options.pop("levels")
        if (folder / checkpoint.CONFIG).exists():
            print(f"{folder}: done before", flush=True)
            student = checkpoint.load(folder).to(device)
            continue
        if student is None:
            replace = plan.get("replace", {})  # null: leaky ReLUs and max-pools stay
            student = copy.deepcopy(teacher)
            if replace is not None:
                student = replace_layers(teacher, calibration, **replace)
        if levels is not None:
            fresh = getattr(student, "levels", None) is None
            student = prepare(student, levels, calibration, **plan.get("prepare", {}) if fresh else {})
        config = FinetuneConfig(**{**plan["finetune"], **options})
        print(f"{folder}: {config}", flush=True)
        finetune(student, pictures, teacher, config, output=folder)
        checkpoint.save(student, folder)


if __name__ == "__main__":
    main()
