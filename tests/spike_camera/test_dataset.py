"""Spike data sets: what was written comes back, and means are those of the pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sj_lowlat.data import CocoDataset, Sample, TrafficDataset, moving_sequence
from sj_lowlat.errors import InputError
from sj_lowlat.spike_camera import (
    SPIKE_CLASSES,
    Camera,
    SpikeDataset,
    encode_dataset,
    encode_traffic,
    tfi,
    to_grey,
    traffic_class,
)

CAMERA = Camera(frames=64, size=64, rate_at_white=0.5)


class Pictures:
    """Two pictures of odd sizes with a cat, a dog, a car and a person."""

    class_names = ("cat", "car", "person", "dog")

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index)
        height, width = ((50, 97), (81, 40))[index]
        coarse = torch.rand(1, 3, 5, 6, generator=generator) * 255
        image = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0].to(torch.uint8)
        boxes = torch.tensor([[2.0, 3, 20, 30], [4.0, 4, 39, 49], [1.0, 1, 9, 9]])
        labels = torch.tensor([[0, 1, 2], [3, 2, 2]][index])
        none = torch.zeros(3, dtype=torch.bool)
        return Sample(image, boxes, labels, torch.tensor([False, False, True]), none, f"picture {index}")


def test_classes() -> None:
    names = ("person", "bicycle", "motorbike", "truck", "vehicle", "cat", "aeroplane")
    assert [traffic_class(name) for name in names] == [0, 1, 1, 1, 1, None, None]


def test_pictures_come_back_as_their_means(tmp_path: Path) -> None:
    path = encode_dataset(Pictures(), tmp_path, CAMERA)
    data = SpikeDataset(path)
    assert len(data) == 2 and data.class_names == SPIKE_CLASSES
    for index, size in enumerate([(32, 64), (64, 32)]):
        clip = data.clip(index)
        assert clip.stream.shape == (64, *size) and clip.frame == 32 and clip.rate_at_white == 0.5
        sample = data[index]
        assert sample.image.shape == (3, *size)
        original = Pictures()[index]
        resized = torch.nn.functional.interpolate(
            original.image[None].float(), size, mode="bilinear", antialias=True
        )
        grey = to_grey(resized[0].round().to(torch.uint8).numpy())
        got = sample.image[0].numpy() / 255
        assert np.abs(got - grey).max() < 1 / (0.5 * 63) + 0.02  # a mean of 63 frames
        factor = torch.tensor([size[1] / original.image.shape[2], size[0] / original.image.shape[1]] * 2)
        kept = [i for i, label in enumerate(original.labels.tolist()) if label in (1, 2)]
        torch.testing.assert_close(sample.boxes, (original.boxes * factor)[kept])
        assert sample.labels.tolist() == [[1, 0], [0, 0]][index]
        assert sample.crowd.tolist() == [False, True]
        by_intervals = data.picture(index, lambda clip: tfi(clip.stream.planes(), clip.frame)).image
        assert np.abs(by_intervals[0].numpy() / 255 - grey).mean() < 0.1
    assert data.subset([1]).target(0).labels.tolist() == [0, 0]


def test_moving_pictures_hold_their_boxes_in_the_middle(tmp_path: Path) -> None:
    fast = SpikeDataset(encode_dataset(Pictures(), tmp_path / "fast", CAMERA, speed=0.5, shake=1.0), window=1)
    still = SpikeDataset(encode_dataset(Pictures(), tmp_path / "still", CAMERA))
    clips = [data.clip(0) for data in (fast, still)]
    assert torch.equal(clips[0].target.boxes, clips[1].target.boxes)
    means = [clip.stream.mean_rate() for clip in clips]
    assert np.abs(means[0] - means[1]).mean() > 0.02


def test_difficult_objects_are_neither_found_nor_missed(tmp_path: Path) -> None:
    class Difficult(Pictures):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            sample.difficult = torch.tensor([False, True, False])
            return sample

    data = SpikeDataset(encode_dataset(Difficult(), tmp_path, CAMERA))
    assert [data.target(i).crowd.tolist() for i in range(2)] == [[True, True], [True, True]]


def test_traffic(tmp_path: Path) -> None:
    camera = Camera(frames=8, size=64, seed=3)
    data = SpikeDataset(encode_traffic(2, tmp_path / "fast", camera, steps_per_frame=1))
    sequence = moving_sequence(3 * 100_003, 8, 64)
    assert torch.equal(data.target(0).boxes, sequence.boxes[4])
    assert data.target(0).labels.tolist() == [int(label > 0) for label in sequence.labels[4].tolist()]
    grey = to_grey(sequence.frames).mean(0)
    assert np.abs(data.clip(0).stream.mean_rate() / 0.6 - grey).max() <= 1 / (8 * 0.6) + 1e-5
    held = SpikeDataset(encode_traffic(1, tmp_path / "held", camera, steps_per_frame=3))
    assert torch.equal(held.target(0).boxes, moving_sequence(3 * 100_003, 3, 64).boxes[1])  # frames 3, 4, 5
    assert len(held.clip(0).stream) == 8


def test_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encode_dataset(Pictures(), tmp_path / "whole", CAMERA, speed=0.1)
    broken = tmp_path / "broken"
    encode_dataset(Pictures(), broken, CAMERA, speed=0.1)
    (broken / "instances.json").unlink()
    (broken / "streams" / "000001.dat").write_bytes(b"half")
    kept = (broken / "streams" / "000000.dat").stat().st_mtime_ns
    again = encode_dataset(Pictures(), broken, CAMERA, speed=0.1)
    assert again.read_bytes() == whole.read_bytes()
    for name in ("streams/000000.dat", "streams/000001.dat"):
        assert (broken / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert (broken / "streams" / "000000.dat").stat().st_mtime_ns == kept
    with monkeypatch.context() as nothing_is_drawn:
        nothing_is_drawn.setattr("sj_lowlat.spike_camera.generate.SpikeEncoder", None)
        nothing_is_drawn.setattr(Pictures, "__getitem__", None)
        assert encode_dataset(Pictures(), broken, CAMERA, speed=0.1) == again
    (broken / "streams" / "000001.dat").write_bytes(b"half")
    encode_dataset(Pictures(), broken, CAMERA, speed=0.1)
    assert (broken / "streams" / "000001.dat").read_bytes() == (
        tmp_path / "whole" / "streams" / "000001.dat"
    ).read_bytes()
    with pytest.raises(InputError, match="begun with another speed"):
        encode_dataset(Pictures(), broken, CAMERA, speed=0.2)
    (broken / "request.json").write_text("{")
    with pytest.raises(InputError, match=r"request.json is damaged .* remove it and begin again"):
        encode_dataset(Pictures(), broken, CAMERA, speed=0.1)


@pytest.mark.parametrize("harm", ["zeros", "no request", "empty request", "another seed", "half a JSON"])
def test_only_streams_of_the_same_request_are_kept(tmp_path: Path, harm: str) -> None:
    whole = encode_dataset(Pictures(), tmp_path / "whole", CAMERA)
    folder = tmp_path / "other"
    encode_dataset(Pictures(), folder, replace(CAMERA, seed=5) if harm == "another seed" else CAMERA)
    stream = folder / "streams" / "000001.dat"
    if harm in ("zeros", "no request", "empty request"):
        stream.write_bytes(bytes(stream.stat().st_size))  # a stream's size says nothing of what is in it
    if harm == "empty request":
        (folder / "request.json").write_text("{}")
    elif harm in ("no request", "another seed"):
        (folder / "request.json").unlink()
    elif harm == "half a JSON":
        (folder / "instances.json").write_bytes(whole.read_bytes()[:100])
    assert encode_dataset(Pictures(), folder, CAMERA).read_bytes() == whole.read_bytes()
    for name in ("streams/000000.dat", "streams/000001.dat", "streams.sha256"):
        held = (folder / name).read_bytes()
        if harm == "zeros" and name == "streams.sha256":  # the mended stream's sum stands there again
            held = b"".join(dict.fromkeys(held.splitlines(keepends=True)))
        assert held == (tmp_path / "whole" / name).read_bytes()


def test_bad_values(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="frames 1 and size 64"):
        Camera(frames=1, size=64)
    with pytest.raises(InputError, match="speed -1 came"):
        encode_dataset(Pictures(), tmp_path, CAMERA, speed=-1)
    with pytest.raises(InputError, match="clips 0, size 64"):
        encode_traffic(0, tmp_path, CAMERA)
    photos = TrafficDataset(2, size=64).write_coco(tmp_path / "photos")
    with pytest.raises(InputError, match="has no frames, frame, frame_rate, rate_at_white"):
        SpikeDataset(photos, tmp_path / "photos" / "images")
    path = encode_dataset(Pictures(), tmp_path / "set", CAMERA)
    record = json.loads(path.read_text())
    record["images"][0]["frames"] = 63
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"\(64, 32, 64\), its JSON says \(63, 32, 64\)"):
        SpikeDataset(path).clip(0)
    record["categories"][0]["name"] = "cat"
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match="has the classes cat, vehicle"):
        SpikeDataset(path)


def test_it_is_a_coco_file_too(tmp_path: Path) -> None:
    path = encode_dataset(Pictures(), tmp_path, CAMERA)
    assert CocoDataset(path, tmp_path).class_names == SPIKE_CLASSES


def test_reading_streams_needs_no_torch() -> None:
    code = "import sys, sj_lowlat.spike_camera as s; s.open_stream; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
