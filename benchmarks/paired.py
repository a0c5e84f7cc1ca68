"""How far two kept runs differ on the same photos, and how sure that is: the bootstrap over photos.

    python benchmarks/score.py TABLE --data DATA --set keep=true
    python benchmarks/paired.py runs/TABLE/ONE.npz runs/TABLE/OTHER.npz [--resamples 1000]

Every read-out of the first is compared with the last one of the second. A file holds boxes and detections, so
that neither photos nor networks are needed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sj_lowlat.data import DetectionDataset, Sample, Target, ground_truth
from sj_lowlat.data.sample import make_target
from sj_lowlat.detect import Detections
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation import Difference, Interval, Matches, match
from sj_lowlat.evaluation.bootstrap import intervals
from sj_lowlat.files import atomic_write
from sj_lowlat.record import table


@dataclass(frozen=True)
class Kept:
    """What was found in photos, and what is in them; a data set without pictures.

    :param found: by read-out, in their order; ``"None"`` for a network without spikes
    :param class_map: model label -> data set label
    """

    class_names: tuple[str, ...]
    targets: Sequence[Target]
    protocol: str
    class_map: Mapping[int, int]
    found: Mapping[str, Sequence[Detections]]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Sample:
        raise NotImplementedError("pictures are not kept")

    def target(self, index: int) -> Target:
        return self.targets[index]

    def matches(self, step: str) -> Matches:
        """One read-out, compared with the truth."""
        return match(self, self.found[step], self.protocol, self.class_map)


def save(
    path: Path,
    dataset: DetectionDataset,
    protocol: str,
    class_map: Mapping[int, int] | None,
    found: Mapping[str, Sequence[Detections]],
) -> None:
    """Keep what ``evaluate(keep_detections=True)`` found, in a file that is whole or absent."""
    targets, names = ground_truth(dataset), dataset.class_names
    pairs = {label: label for label in range(len(names))} if class_map is None else class_map
    records = [record for each in found.values() for record in each]
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            class_names=np.array(names),
            protocol=np.array(protocol),
            class_map=np.array(list(pairs.items())),
            image_ids=np.array([str(target.image_id) for target in targets]),
            truth_counts=np.array([len(target) for target in targets]),
            truth_boxes=torch.cat([target.boxes for target in targets]).numpy(),
            truth_labels=torch.cat([target.labels for target in targets]).numpy(),
            truth_ignored=torch.cat([target.crowd | target.difficult for target in targets]).numpy(),
            steps=np.array(list(found)),
            counts=np.array([len(record) for record in records]),  # by read-out, then image
            boxes=torch.cat([record.boxes for record in records]).numpy(),
            scores=torch.cat([record.scores for record in records]).numpy(),
            labels=torch.cat([record.labels for record in records]).numpy(),
        )


def load(path: Path) -> Kept:
    """What :func:`save` kept."""
    with np.load(path) as file:
        kept = {name: file[name] for name in file.files}

    def parts(counts: str, *names: str) -> list[tuple[torch.Tensor, ...]]:
        sizes = kept[counts].tolist()
        return list(zip(*(torch.from_numpy(kept[name]).split(sizes) for name in names), strict=True))

    targets = [
        make_target(boxes, labels.tolist(), str(number), ignored.tolist())
        for number, (boxes, labels, ignored) in zip(
            kept["image_ids"],
            parts("truth_counts", "truth_boxes", "truth_labels", "truth_ignored"),
            strict=True,
        )
    ]
    records = [Detections(*record) for record in parts("counts", "boxes", "scores", "labels")]
    images = len(targets)
    found = {
        str(step): records[place * images : (place + 1) * images] for place, step in enumerate(kept["steps"])
    }
    class_map = {int(label): int(other) for label, other in kept["class_map"]}
    return Kept(tuple(map(str, kept["class_names"])), targets, str(kept["protocol"]), class_map, found)


def differences(
    one: Path, other: Path, resamples: int = 1000, last: bool = False
) -> tuple[dict[str, tuple[Interval, Difference]], Interval]:
    """mAP50 of each read-out of a run, and what it is more than that of the last one of another run.

    :param last: only the last read-out
    :return: by read-out; and the interval of the other run
    :raises InputError: if the two are not of the same photos
    """
    first, second = load(one), load(other)
    if [target.image_id for target in first.targets] != [target.image_id for target in second.targets]:
        raise InputError(f"{one} and {other} are of different photos: give runs of the same")
    steps = list(first.found)[-1 if last else 0 :]
    points = [first.matches(step) for step in steps]
    found, more = intervals(points, second.matches(list(second.found)[-1]), resamples=resamples)
    *own, beside = found
    return dict(zip(steps, zip(own, more, strict=True), strict=True)), beside


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("one", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--resamples", type=int, default=1000)
    args = parser.parse_args(argv)
    points, beside = differences(args.one, args.other, args.resamples)
    print(f"mAP50 in %; {args.other.stem}: {beside}")
    rows = [
        [
            step.replace("None", "-"),
            f"{100 * interval.estimate:.2f}",
            interval.range,
            f"{100 * more.estimate:+.2f}",
            more.range,
            f"{100 * more.share:.1f}",
        ]
        for step, (interval, more) in points.items()
    ]
    print(table(["steps", args.one.stem, "95 %", "less the other", "95 %", "more in %"], rows))


if __name__ == "__main__":
    main()
