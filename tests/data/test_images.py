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


def test_what_is_transparent_shows_white(tmp_path: Path) -> None:
    layer = np.random.default_rng(0).integers(0, 256, (5, 6, 4), dtype=np.uint8)
    layer[0, :, 3], layer[1, :, 3] = 0, 255
    Image.fromarray(layer).save(tmp_path / "layer.png")
    share = layer[..., 3:] / 255
    white = layer[..., :3] * share + 255 * (1 - share)
    found = read_image(tmp_path / "layer.png").permute(1, 2, 0).numpy()
    assert (np.abs(found - white) <= 1).all() and (found[0] == 255).all()
    assert np.array_equal(found[1], layer[1, :, :3])


def test_transparent_palettes_and_greys(tmp_path: Path) -> None:
    palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    palette.save(tmp_path / "palette.png", transparency=1)
    assert read_image(tmp_path / "palette.png")[0].tolist() == [[10, 255, 70]]
    grey = Image.merge("LA", [Image.new("L", (2, 1), 100), Image.new("L", (2, 1), 0)])
    grey.save(tmp_path / "grey.png")
    assert (read_image(tmp_path / "grey.png") == 255).all()
