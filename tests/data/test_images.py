"""Pictures as files hold them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from sj_lowlat.data.images import image_size, read_image
from sj_lowlat.errors import InputError


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiffs_are_upright(tmp_path: Path, orientation: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 10, 3), dtype=np.uint8)
    mark = Image.Exif()
    mark[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "scan.tiff", exif=mark.tobytes())
    Image.fromarray(pixels).save(tmp_path / "scan.png", exif=mark.tobytes())
    found = read_image(tmp_path / "scan.tiff")
    assert torch.equal(found, read_image(tmp_path / "scan.png"))
    assert image_size(tmp_path / "scan.tiff") == (found.shape[2], found.shape[1])


@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 9, 32774])
def test_pictures_are_upright(tmp_path: Path, orientation: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 10, 3), dtype=np.uint8)
    mark = Image.Exif()
    mark[0x0112] = orientation
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path, exif=mark.tobytes())
    with Image.open(path) as picture:
        want = np.asarray(ImageOps.exif_transpose(picture))
    found = read_image(path)
    assert np.array_equal(found.permute(1, 2, 0).numpy(), want)
    assert image_size(path) == (found.shape[2], found.shape[1])
    if 5 <= orientation <= 8:  # boxes of the picture as it is stored belong to that
        assert np.array_equal(read_image(path, (10, 4)).permute(1, 2, 0).numpy(), pixels)
        assert read_image(path, (4, 10)).shape == (3, 10, 4)


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    grey = np.linspace(0, 65535, 12).astype(np.uint16).reshape(3, 4)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    found = read_image(tmp_path / "deep.png")
    assert torch.equal(found, torch.from_numpy((grey // 257).astype(np.uint8)).expand(3, 3, 4))


def test_floating_point_pictures_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).random((3, 4), dtype=np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(InputError, match="floating-point numbers, of which nobody knows the white"):
        read_image(tmp_path / "float.tiff")
