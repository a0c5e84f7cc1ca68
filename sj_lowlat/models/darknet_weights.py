"""Reader and writer of darknet's weight files (.weights)."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sj_lowlat.errors import InputError
from sj_lowlat.files import atomic_write

if TYPE_CHECKING:
    from sj_lowlat.models.darknet_net import DarknetNet

# published files hold denormals of either sign in dead channels
_LEAST_VARIANCE = -1e-30
_SAFE_VALUES = 2**24
_PARTIAL = re.compile(r"\.conv\.([1-9][0-9]{0,8})$")
_NORM_KEYS = ("bn.bias", "bn.weight", "bn.running_mean", "bn.running_var")


@dataclass(frozen=True)
class DarknetHeader:
    """The first bytes of a .weights file: version, and number of training images seen."""

    major: int = 0
    minor: int = 2
    revision: int = 0
    seen: int = 0

    @property
    def format(self) -> str:
        """How :mod:`struct` reads it: 20 bytes from version 0.2 on, 16 before."""
        return "<iiiq" if self.major * 10 + self.minor >= 2 else "<iiii"


def load_darknet_weights(net: DarknetNet, path: str | Path) -> DarknetHeader:
    """Fill a network from a .weights file; the network is untouched unless all of the file fits.

    Per convolution, in the order of the cfg: bias (the batch norm's, where there is one), then the batch
    norm's scale, running mean and running variance, then the weights ``[out, in / groups, k, k]``, all
    little-endian float32. A file named ``NET.conv.N``, as ``darknet partial`` writes it to train from,
    holds the layers below N; the others stay as they are.

    :param net: a network built from the cfg that the weights belong to
    :return: the file's header
    :raises FileNotFoundError: if there is no such file
    :raises InputError: if the file is cut short, has floats left over, or its values cannot be of this cfg
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no darknet weights at {path}: give the path of a .weights file")
    header, values = _read(path)
    partial = _PARTIAL.search(path.name)
    parts = list(_parts(net, int(partial[1]) if partial else None))
    *ends, expected = np.cumsum([tensor.numel() for _, tensor in parts])
    missing = expected - len(values)
    if missing:
        short = f"{missing} are missing; the file is cut short or"
        what = short if missing > 0 else f"{-missing} are left over; the file is"
        whole = f"the network's first {partial[1]} layers take" if partial else "the network takes"
        raise InputError(
            f"{path} holds {len(values)} floats, {whole} {expected}: {what} made for another cfg, "
            "or the number of classes or the width differ"
        )
    pieces = np.split(values, ends)
    for (name, _), piece in zip(parts, pieces, strict=True):
        if not np.isfinite(piece).all() or (name.endswith("running_var") and (piece < _LEAST_VARIANCE).any()):
            raise InputError(
                f"{path}: what should be {name} holds values that are not finite, or a variance below zero: "
                f"the file is damaged or made for another cfg (only the number of floats, {expected}, fits)"
            )
    with torch.no_grad():
        for (name, tensor), piece in zip(parts, pieces, strict=True):
            piece = piece.clip(min=0) if name.endswith("running_var") else piece
            tensor.copy_(torch.from_numpy(piece).view_as(tensor))
    return header


def room_in(path: str | Path) -> int | None:
    """Values that a network for this file may hold before :func:`load_darknet_weights` tells what does not
    fit: twice as many as the file; ``None`` for one of a network's first layers.
    """
    path = Path(path)
    if _PARTIAL.search(path.name) or not path.is_file():
        return None
    return max(_SAFE_VALUES, path.stat().st_size // 2)


def save_darknet_weights(net: DarknetNet, path: str | Path, header: DarknetHeader | None = None) -> None:
    """Write a network as a .weights file, as :func:`load_darknet_weights` reads it.

    :param net: a network built from a cfg
    :param header: by default version 0.2.0, no images seen
    """
    header = header or DarknetHeader()
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack(header.format, *astuple(header)))
        for _, tensor in _parts(net):
            file.write(tensor.detach().float().cpu().contiguous().numpy().astype("<f4").tobytes())


def _read(path: Path) -> tuple[DarknetHeader, np.ndarray]:
    data = path.read_bytes()
    if len(data) < 16:
        raise InputError(
            f"{path} has {len(data)} bytes, too few for the 16 or 20 of a darknet header: it is cut short"
        )
    header = DarknetHeader(*struct.unpack_from("<iii", data))
    if not (0 <= header.major < 1000 and 0 <= header.minor < 1000):
        version = f"{header.major}.{header.minor}"
        raise InputError(f"{path} starts with version {version}: it is not a darknet .weights file")
    length = struct.calcsize(header.format)
    if len(data) < length or (len(data) - length) % 4:
        raise InputError(
            f"{path} has {len(data)} bytes, not a header of {length} and whole float32 values: "
            "it is cut short"
        )
    *_, seen = struct.unpack_from(header.format, data)
    return replace(header, seen=seen), np.frombuffer(data, "<f4", offset=length).astype(np.float32)


def _parts(net: DarknetNet, below: int | None = None) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) in the order of the file; shared weights stand there once.

    :param below: only layers of smaller numbers
    """
    seen: set[int] = set()
    for number, block in net.conv_blocks():
        if below is not None and number >= below:
            return
        state = dict(block.state_dict(keep_vars=True))
        if id(state["conv.weight"]) in seen:
            continue
        seen.add(id(state["conv.weight"]))
        for key in (*(_NORM_KEYS if "bn.weight" in state else ("conv.bias",)), "conv.weight"):
            yield f"layers.{number}.{key}", state[key]
