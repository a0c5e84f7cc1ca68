"""Where data in YOLO's format has its classes and pictures: data.yaml, darknet's .data, or folders alone."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sj_lowlat.data.images import SUFFIXES
from sj_lowlat.errors import InputError
from sj_lowlat.files import inside, read_text

_FORMS = (
    "give a data.yaml, a .data file of darknet, or a folder with one of them, "
    "or with images/, labels/ and classes.txt"
)
_LARGEST = 2**19  # bytes of a data.yaml: ten thousand classes; PyYAML reads this in seconds
_SETS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_NOTHING = ("", "~", "null", "None")
_DARKNET = "data/"  # where darknet's own lists think they lie


@dataclass(frozen=True)
class Layout:
    """Classes and sets of pictures, before any picture is looked for.

    :param source: what says so, for errors
    :param root: the folder in which all files must lie
    :param sets: name of a set -> its folders, lists of pictures, and pictures
    """

    source: Path
    root: Path
    class_names: tuple[str, ...]
    sets: Mapping[str, Sequence[str]]

    def choose(self, image_set: str | None) -> str:
        """The set that is meant: the given one, or the only one.

        :raises InputError: if there is no such set, or none is given and there are several
        """
        name = _SETS.get(image_set, image_set) if image_set is not None else None
        if name is None and len(self.sets) == 1:
            return next(iter(self.sets))
        if name is None or name not in self.sets:
            came = "no set was given" if image_set is None else f"set {image_set!r} came"
            raise InputError(f"{came}: {self.source} has the sets {', '.join(self.sets)}: give one of them")
        return name

    def pictures(self, image_set: str) -> list[Path]:
        """The pictures of a set, each once.

        :raises FileNotFoundError: if some are missing
        :raises InputError: if there are none, or a name leaves the folder
        """
        found: list[Path] = []
        for name in self.sets[image_set]:
            place = self.find(name)
            if os.path.isdir(place):
                found += sorted(
                    file for file in place.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file()
                )
            elif place.suffix.lower() in SUFFIXES:
                found.append(place)
            elif os.path.isfile(place):
                lines = read_text(place, "a list of pictures, one a line").split("\n")
                found += [self.find(line.strip(), place) for line in lines if line.strip()]
            else:
                raise FileNotFoundError(
                    f"{self.source} has its set {image_set} at {name}, which is not in {self.root}: "
                    f"all files must lie in that folder; correct the name, or put {self.source.name} there"
                )
        files = list(dict.fromkeys(found))
        if not files:
            raise InputError(f"the set {image_set} of {self.source} holds no pictures: {', '.join(SUFFIXES)}")
        missing = [str(file.relative_to(self.root)) for file in files if not os.path.isfile(file)]
        if missing:
            some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise FileNotFoundError(
                f"{len(missing)} of the {len(files)} pictures that {self.source} has in its set {image_set} "
                f"are not in {self.root} ({some}): fetch them or take them off the list"
            )
        return files

    def find(self, name: str, listed: Path | None = None) -> Path:
        """The file or folder of a name; where there is none, the place where it should be.

        Names are relative to the folder, or to the list that they stand in. As other readers do, one ``../``
        in front is left out; and so is darknet's ``data/``.

        :raises InputError: if it is not in the folder
        """
        plain = name.replace("\\", "/")
        if os.path.isabs(plain):
            relative = os.path.relpath(plain, self.root)
            # the name as it stands, for the error
            plain = plain if relative.startswith("..") else relative
        plain = plain.removeprefix("../")
        places = [inside(self.root, plain, listed or self.source)]
        if plain.startswith(_DARKNET):
            places.append(inside(self.root, plain.removeprefix(_DARKNET), self.source))
        if listed is not None:
            places.append(listed.parent / places[0].relative_to(self.root))
        return next((place for place in places if os.path.exists(place)), places[0])


def find_layout(source: str | Path) -> Layout:
    """The layout of a file or folder.

    :raises FileNotFoundError: if there is nothing
    :raises InputError: if it is nothing of the kind, or what describes it is damaged
    """
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"no data at {path}: {_FORMS}")
    if path.is_dir():
        described = _only(path, ("*.yaml", "*.yml"), "data.yaml") or _only(path, ("*.data",), "obj.data")
        return _of_folder(path) if described is None else find_layout(described)
    if not path.is_file():  # a FIFO would be waited for
        raise InputError(f"{path} is a device: {_FORMS}")
    if path.suffix.lower() in (".yaml", ".yml"):
        return _of_yaml(path)
    if path.suffix.lower() == ".data":
        return _of_darknet(path)
    raise InputError(f"{path} does not describe data in YOLO's format: {_FORMS}")


def _only(folder: Path, patterns: Sequence[str], first: str) -> Path | None:
    """The file of a folder that is meant: the usual name, else the only one."""
    found = sorted(file for pattern in patterns for file in folder.glob(pattern) if file.is_file())
    if folder / first in found:
        return folder / first
    if len(found) > 1:
        raise InputError(f"{folder} holds {', '.join(file.name for file in found)}: give one of them")
    return found[0] if found else None


def _of_yaml(file: Path) -> Layout:
    record = _read_yaml(file)
    if "kpt_shape" in record:
        raise InputError(f"{file} describes key points (kpt_shape), which are not read: give labels of boxes")
    names = _names(file, record.get("names"))
    count = record.get("nc", str(len(names)))
    if count != str(len(names)):
        # a list may hold itself many times over, and is not printed
        came = f"{count:.40}" if isinstance(count, str) else "what is no number"
        raise InputError(f"{file} says nc: {came} and names {len(names)} classes: make them agree")
    root, path = file.parent, record.get("path", "")
    if isinstance(path, str) and path not in _NOTHING:
        # elsewhere is where the data lay when the file was written
        place = os.path.relpath(root / path.replace("\\", "/"), root)
        root = root / place if not place.startswith("..") and (root / place).is_dir() else root
    sets: dict[str, list[str]] = {}
    for key, name in _SETS.items():
        value = record.get(key, "")
        places = value if isinstance(value, list) else [value]
        if not all(isinstance(place, str) for place in places):
            raise InputError(
                f"{file}: {key} is neither a folder, nor a list file, nor a list of these: correct it"
            )
        if places := [place for place in places if place not in _NOTHING]:
            sets[name] = places
    if not sets:
        raise InputError(f"{file} names no pictures: give train, val or test, as in val: images/val")
    return Layout(file, root, names, sets)


def _names(file: Path, value: Any) -> tuple[str, ...]:
    """Classes of a data.yaml, as a list or with their numbers."""
    if isinstance(value, dict):
        numbers = {str(number): name for number, name in value.items()}
        value = [numbers.get(str(number)) for number in range(len(numbers))]
    if not isinstance(value, list) or not value or not all(isinstance(name, str) and name for name in value):
        raise InputError(
            f"{file} needs names, a list of classes such as names: [cat, dog], or their numbers from 0 with "
            "their names, such as names: {0: cat, 1: dog}"
        )
    return tuple(value)


def _read_yaml(file: Path) -> dict[str, Any]:
    if file.stat().st_size > _LARGEST:
        raise InputError(f"{file} has more than {_LARGEST} bytes, it is no data.yaml: give another file")
    text = read_text(file, "a data.yaml")
    try:
        # all values stay text (a class may be called no); no merge keys, which can grow without end
        record = yaml.load(text, Loader=yaml.BaseLoader)
    except RecursionError:
        raise InputError(f"{file} is damaged or no YAML (nested too deeply): give a data.yaml") from None
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{file} is damaged or no YAML ({reason:.300}): give a data.yaml") from error
    if not isinstance(record, dict):
        raise InputError(f"{file} is no data.yaml: it must give names and train, val or test")
    return record


def _of_darknet(file: Path) -> Layout:
    lines = read_text(file, "a .data file of darknet").split("\n")
    pairs = [line.split("#")[0].partition("=") for line in lines if "=" in line]
    record = {key.strip(): value.strip() for key, _, value in pairs}
    if not record.get("names"):
        raise InputError(f"{file} needs a line such as names = obj.names, the file with a class on each line")
    # darknet is run above the folders cfg and data
    above = file.parent.parent if file.parent.name in ("cfg", "data") else file.parent
    roots = [file.parent, above]
    layouts = [Layout(file, root, (), {}) for root in roots]
    there = [layout for layout in layouts if os.path.isfile(layout.find(record["names"]))]
    if not there:
        raise FileNotFoundError(f"{file} names {record['names']}, which is not in {file.parent}: correct it")
    root = there[0].root
    names = _lines(there[0].find(record["names"]))
    if record.get("classes", str(len(names))) != str(len(names)):
        raise InputError(
            f"{file} says classes = {record['classes']:.40}, and {record['names']} names {len(names)}: "
            "make them agree"
        )
    sets = {_SETS[key]: [value] for key, value in record.items() if key in _SETS and value}
    if not sets:
        raise InputError(f"{file} names no pictures: give train or valid, as in valid = test.txt")
    return Layout(file, root, names, sets)


def _of_folder(folder: Path) -> Layout:
    """Pictures in images/, or beside their labels; sets are folders called train, val, test or alike."""
    pictures = folder / "images" if (folder / "images").is_dir() else folder
    candidates = [folder / "classes.txt", folder / "labels" / "classes.txt", pictures / "classes.txt"]
    names = next((file for file in candidates if file.is_file()), None) or _only(folder, ("*.names",), "")
    if names is None:
        raise InputError(
            f"{folder} has neither data.yaml nor classes.txt, a file with a class on each line: {_FORMS}"
        )
    sets: dict[str, list[str]] = {}
    for place in sorted(pictures.iterdir()):
        # train2017, val-1
        kind = _SETS.get(re.sub(r"[-_]?\d+$", "", place.name))
        if kind and place.is_dir():
            if kind in sets:
                raise InputError(
                    f"{pictures} has several sets {kind}: write a data.yaml that tells which pictures belong"
                )
            sets[kind] = [place.relative_to(folder).as_posix()]
    return Layout(folder, folder, _lines(names), sets or {"all": [pictures.relative_to(folder).as_posix()]})


def _lines(file: Path) -> tuple[str, ...]:
    """Classes of a file with one on each line."""
    lines = [line.strip() for line in read_text(file, "a list of classes, one a line").split("\n")]
    names = tuple(line for line in lines if line)
    if not names:
        raise InputError(f"{file} is empty: write a class on each line")
    return names
