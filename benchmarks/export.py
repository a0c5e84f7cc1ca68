"""Exported files of the shipped detector against the package: boxes of onnxruntime, spikes of numpy.

python benchmarks/export.py --photos PHOTOS --output runs/export
"""

from __future__ import annotations

import argparse
import copy
import json
import runpy
from pathlib import Path

import numpy as np
import torch
from runner import save_results
from torchvision.ops import box_iou

from sj_lowlat import load_pretrained, simulate
from sj_lowlat.data import read_image
from sj_lowlat.data.letterbox import letterbox
from sj_lowlat.detect import Detections, detections_from_maps
from sj_lowlat.export import read_integers, run_onnx, write_integers, write_onnx
from sj_lowlat.layers import LowLatencyIFNode
from sj_lowlat.pretrained import load

SHIPPED = "snn-tiny-yolov3-coco"
REFERENCE = Path(__file__).parents[1] / "docs" / "integer_reference.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="a folder of pictures")
    parser.add_argument("--output", type=Path, default=Path("runs/export"), help="gets the files")
    parser.add_argument("--results", type=Path, help="instead of OUTPUT/export.json")
    parser.add_argument("--onnx-photos", type=int, default=50)
    parser.add_argument("--integer-photos", type=int, default=5)
    options = parser.parse_args()
    files = sorted(options.photos.glob("*.jpg"))
    images = [letterbox(read_image(file), 416)[0] for file in files[: options.onnx_photos]]
    record = {"onnx": onnx(images, options.output), "integers": {}}
    record["integers"] = integers(images[: options.integer_photos], options.output)
    save_results(options.results or options.output / "export.json", record)
    print(json.dumps(record, indent=2))


def apart(ours: Detections, theirs: Detections) -> tuple[int, int, float, float]:
    """Boxes of the first; how many have a partner of the same class, overlap above 0.5; largest differences
    of corners in pixels and of scores, over the pairs."""
    matched, corners, scores = 0, 0.0, 0.0
    for box, score, label in zip(ours.boxes, ours.scores, ours.labels, strict=True):
        overlap = box_iou(box[None], theirs.boxes)[0] * (theirs.labels == label)
        if len(overlap) and overlap.max() > 0.5:
            best, matched = int(overlap.argmax()), matched + 1
            corners = max(corners, float((theirs.boxes[best] - box).abs().max()))
            scores = max(scores, float((theirs.scores[best] - score).abs()))
    return len(ours.boxes), matched, corners, scores


def summary(pairs: list[tuple[int, int, float, float]]) -> dict[str, float]:
    boxes, matched, corners, scores = zip(*pairs, strict=True)
    return {"images": len(pairs), "boxes": sum(boxes), "matched": sum(matched),
            "corner_px": max(corners), "score": max(scores)}  # fmt: skip


def onnx(images: list[torch.Tensor], folder: Path) -> dict[str, dict[str, float]]:
    """Boxes of torch in float32 against onnxruntime, and, to compare, against torch in float64."""
    quant = load(SHIPPED, spiking=False)
    path = write_onnx(quant, folder / "quant.onnx")
    double = copy.deepcopy(quant).double()
    pairs: dict[str, list[tuple[int, int, float, float]]] = {"onnxruntime": [], "torch_float64": []}
    for image in images:
        with torch.no_grad():
            exact = [out.float() for out in double(image[None].double())]
            ours = detections_from_maps(quant(image[None]), quant.info.heads, 0.25, 0.45, 100)
        theirs = detections_from_maps(run_onnx(path, image[None]), quant.info.heads, 0.25, 0.45, 100)
        pairs["onnxruntime"].append(apart(ours[0], theirs[0]))
        wide = detections_from_maps(exact, quant.info.heads, 0.25, 0.45, 100)
        pairs["torch_float64"].append(apart(ours[0], wide[0]))
    return {name: summary(found) for name, found in pairs.items()}


def integers(images: list[torch.Tensor], folder: Path) -> dict[str, float]:
    path = write_integers(load_pretrained(SHIPPED), folder / "tiny.npz")
    snn, arrays = read_integers(path), dict(np.load(path))
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    reference = runpy.run_path(str(REFERENCE))["simulate"]
    fired: dict[str, list[torch.Tensor]] = {}
    for name, module in snn.named_modules():
        if isinstance(module, LowLatencyIFNode):
            module.register_forward_hook(
                lambda _m, _i, out, name=name: fired.setdefault(name, []).append(out.clone())
            )
    neurons = [row for row in about["graph"] if row["op"] == "neuron"]
    wrong, spikes, heads_apart = 0, 0, 0.0
    for image in images:
        fired.clear()
        maps = simulate(snn, image[None], chunk=1).outputs[-1]
        grey = (image * 255).round().to(torch.uint8).numpy()
        values: dict[str, np.ndarray] = {}
        for step, values in reference(arrays, about, grey):
            for row in neurons:
                ours = fired[row["layer"]][step - 1][0].numpy()
                wrong += int((ours != values[row["name"]]).sum())
                spikes += int(np.abs(ours).sum())
        for ours, name in zip(maps, about["graph"][-1]["inputs"], strict=True):
            heads_apart = max(heads_apart, float(np.abs(ours[0].numpy() - values[name]).max()))
    return {"wrong_spikes": wrong, "spikes": spikes, "heads_apart": heads_apart}


if __name__ == "__main__":
    main()
