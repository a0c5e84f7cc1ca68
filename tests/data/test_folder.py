from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sj_lowlat.data import AugmentedDataset, DetectionDataset, ImageFolderDataset, batches
from sj_lowlat.errors import InputError


def test_pictures_of_all_subfolders_without_labels(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    Image.new("RGB", (8, 6), (1, 2, 3)).save(tmp_path / "b/x.PNG")
    Image.new("L", (5, 7), 9).save(tmp_path / "a.jpg")
    (tmp_path / "notes.txt").write_text("no picture")
    data = ImageFolderDataset(tmp_path)
    assert isinstance(data, DetectionDataset) and data.class_names == ()
    assert [data[place].image_id for place in range(len(data))] == ["a.jpg", "b/x.PNG"]
    assert data[0].image.shape == (3, 7, 5) and data[1].image[:, 0, 0].tolist() == [1, 2, 3]
    assert data[0].boxes.shape == (0, 4) and len(data.target(1)) == 0
    image, boxes, labels = AugmentedDataset(data, 32)[1]
    assert image.shape == (3, 32, 32) and boxes.shape == (0, 4) and labels.shape == (0,)
    assert next(iter(batches(data, 2, 16))).images.shape == (2, 3, 16, 16)


def test_empty_and_missing_folder(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    with pytest.raises(InputError, match="holds no pictures"):
        ImageFolderDataset(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder at"):
        ImageFolderDataset(tmp_path / "none")


def test_broken_and_vanished_picture(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    data = ImageFolderDataset(tmp_path)
    with pytest.raises(InputError, match=r"cannot read the image .*a\.jpg"):
        data[0]
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="no image at"):
        data[0]
