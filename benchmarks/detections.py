"""Figure 4 of Qiu & Zhu: photos with the boxes of the Quant ANN and of the SNN, early and at its last step.

The figure shows photographs of COCO and VOC, whose licences are their authors': it goes to runs/, and is not
committed. The table tells how many of the Quant ANN's boxes (score 0.25 or more) the SNN finds again: same
class, IoU of at least 0.5.

    python benchmarks/detections.py --data ../shared/data --schedule 4+2b4 --early 3
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from inputs import fingerprint, named, open_network, open_photos
from runner import Runs, arguments, markdown, save_figure, save_results, schedule
from torchvision.ops import box_iou

from sj_lowlat.data import letterbox
from sj_lowlat.detect import Detections, draw
from sj_lowlat.evaluation.predict import predict

MIN_SCORE = 0.25


def found_again(wanted: Detections, found: Detections) -> int:
    """How many boxes of one record the other has too, with the same class and an IoU of at least 0.5."""
    if not len(wanted) or not len(found):
        return 0
    same = wanted.labels[:, None] == found.labels[None]
    return int((same & (box_iou(wanted.boxes, found.boxes) >= 0.5)).any(1).sum())


def main(argv: Sequence[str] | None = None) -> None:
    """Detect on each photo, print the counts, draw the photos side by side."""
    from sj_lowlat.plots import plot_images

    parser = arguments(__doc__, "fig4_detections")
    parser.add_argument("--network", type=named, default="snn-tiny-yolov3-coco", help="[NAME=]a Quant ANN")
    parser.add_argument("--schedule", type=schedule, default="8+4")
    parser.add_argument("--early", type=int, default=6, help="the early read-out, in steps")
    parser.set_defaults(images=4, figure=Path("runs") / "fig4.png")
    args = parser.parse_args(argv)
    (name, spec), run = args.network, args.schedule
    if not 0 < args.early < run.total:
        parser.error(f"--early {args.early} must be before the last step of {run}")
    ann: Any = open_network(spec)
    snn = Runs(args).spiking(spec, "signed")
    readout = (args.early, run.total)
    titles = ("Quant ANN", *(f"SNN, {step} step{'' if step == 1 else 's'}" for step in readout))
    pictures: list[torch.Tensor] = []
    rows: list[tuple[str, ...]] = []
    records: list[dict[str, Any]] = []
    for photos in (open_photos(which, args.data).spaced(args.images) for which in ("coco", "voc")):
        for index in range(len(photos)):
            sample = photos.dataset[index]
            image, box = letterbox(sample.image, args.size)
            reads = [*predict(ann, image[None], [box])]
            reads += predict(snn, image[None], [box], schedule=run, readout=readout)
            found = [read.detections[0].filter(MIN_SCORE) for read in reads]
            pictures += [draw(sample.image, each, ann.class_names, MIN_SCORE) for each in found]
            again = [found_again(found[0], each) for each in found[1:]]
            counts = [len(each) for each in found]
            cells = [f"{count}, {same} of them" for count, same in zip(counts[1:], again, strict=True)]
            rows.append((photos.label, str(sample.image_id), str(counts[0]), *cells))
            records.append(
                {"photos": photos.label, "image_id": sample.image_id, "boxes": counts, "found_again": again}
            )
    print(f"{name}, {run}, {args.size} px: boxes of score {MIN_SCORE} or more; "
          "of the SNN's: how many of the Quant ANN's are among them\n")  # fmt: skip
    print(markdown(("photos", "image", *titles), rows))
    settings = {"network": spec, "weights": fingerprint(spec), "schedule": str(run), "size": args.size}
    save_results(args.results, {**settings, "titles": titles, "photos": records})
    save_figure(plot_images(pictures, list(titles) * (len(pictures) // 3), columns=3), args.figure)


if __name__ == "__main__":
    main()
