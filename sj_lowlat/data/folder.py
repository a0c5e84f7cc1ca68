"""Pictures without labels, for calibration, distillation and detection."""

from __future__ import annotations

from pathlib import Path

from sj_lowlat.data.images import SUFFIXES, read_image
from sj_lowlat.data.sample import Sample, Target, make_target
from sj_lowlat.errors import InputError

__all__ = ["ImageFolderDataset"]


class ImageFolderDataset:
    """All pictures in a folder and its subfolders, sorted by path, or a single picture; no sample has boxes.

    :param folder: the folder, or one picture's file; ``image_id`` is the path inside the folder
    :raises FileNotFoundError: if it does not exist
    :raises InputError: if it holds no pictures
    """

    class_names: tuple[str, ...] = ()

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if self.folder.is_file():
            self.folder, self.images = self.folder.parent, [self.folder]
            return
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no folder at {folder}: give a folder with pictures")
        self.images = sorted(
            path for path in self.folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
        )
        if not self.images:
            raise InputError(
                f"{folder} holds no pictures: looked for {', '.join(SUFFIXES)} in it and its subfolders"
            )

    def __len__(self) -> int:
        return len(self.images)

    def target(self, index: int) -> Target:
        """The empty target that carries the picture's name."""
        return make_target([], [], self.images[index].relative_to(self.folder).as_posix())

    def __getitem__(self, index: int) -> Sample:
        """Read one picture; raises as :func:`read_image`."""
        return Sample.of(read_image(self.images[index]), self.target(index))
