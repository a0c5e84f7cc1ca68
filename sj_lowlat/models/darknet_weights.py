"""Reader and writer of darknet's weight files (.weights)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sj_lowlat.errors import InputError
from sj_lowlat.files import atomic_write
from sj_lowlat.models.darknet_layers import ConvBlock


class HasConvBlocks(Protocol):
    """A network that knows the order in which darknet stores its weights."""

    def conv_blocks(self) -> list[tuple[int, ConvBlock]]:
        """(layer number, block) of every convolution."""
        ...


@dataclass(frozen=True)
class DarknetHeader:
    """The first bytes of a .weights file.

    :param major: version
    :param minor: version
    :param revision: version
    :param seen: number of training images seen; stored in 8 bytes from version 0.2 on, in 4 before
    """

    major: int = 0
    minor: int = 2
    revision: int = 0
    seen: int = 0

    @property
    def format(self) -> str:
        """How :mod:`struct` reads it: 20 bytes from version 0.2 on, 16 before."""
        return "<iiiq" if self.major * 10 + self.minor >= 2 else "<iiii"


def load_darknet_weights(net: HasConvBlocks, path: str | Path) -> DarknetHeader:
    """Fill a network from a .weights file; the network is untouched unless all of the file fits.

    Per convolution, in the order of the cfg: bias (the batch norm's, where there is one), then the batch
    norm's scale, running mean and running variance, then the weights ``[out, in / groups, k, k]``, all
    little-endian float32.

    :param net: a network built from the cfg that the weights belong to
    :param path: the file
    :return: the file's header
    :raises FileNotFoundError: if there is no such file
    :raises InputError: if the file is cut short, has floats left over, or its values cannot belong to this
        cfg; the message has the number of floats expected and found
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no darknet weights at {path}: give the path of a .weights file")
    header, values = _read(path)
    parts = list(_parts(net))
    expected = sum(tensor.numel() for _, tensor in parts)
    if len(values) != expected:
        short = len(values) < expected
        raise InputError(
            f"{path} holds {len(values)} floats, the network takes {expected}: "
            + (
                f"{expected - len(values)} are missing"
                if short
                else f"{len(values) - expected} are left over"
            )
            + "; the file is "
            + ("cut short or " if short else "")
            + "made for another cfg"
            + ", or the number of classes or the width differ"
        )
    pieces = np.split(values, np.cumsum([tensor.numel() for _, tensor in parts])[:-1])
    for (name, _), piece in zip(parts, pieces, strict=True):
        if not np.isfinite(piece).all() or (name.endswith("running_var") and (piece < 0).any()):
            raise InputError(
                f"{path}: what should be {name} holds values that are not finite, or a variance "
                f"below zero: the file is damaged or made for another cfg (only the number of "
                f"floats, {expected}, fits)"
            )
    with torch.no_grad():
        for (_, tensor), piece in zip(parts, pieces, strict=True):
            tensor.copy_(torch.from_numpy(piece).view_as(tensor))
    return header


def save_darknet_weights(net: HasConvBlocks, path: str | Path, header: DarknetHeader | None = None) -> None:
    """Write a network as a .weights file, as :func:`load_darknet_weights` reads it.

    :param net: a network built from a cfg
    :param path: the file to write
    :param header: version and number of training images seen; version 0.2.0 and none, if not given
    """
    header = header or DarknetHeader()
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack(header.format, header.major, header.minor, header.revision, header.seen))
        for _, tensor in _parts(net):
            file.write(tensor.detach().float().cpu().contiguous().numpy().astype("<f4").tobytes())


def _read(path: Path) -> tuple[DarknetHeader, np.ndarray]:
    data = path.read_bytes()
    if len(data) < 16:
        raise InputError(
            f"{path} has {len(data)} bytes, too few for the 16 or 20 of a darknet header: it is cut short"
        )
    major, minor, revision = struct.unpack_from("<iii", data)
    if not (0 <= major < 1000 and 0 <= minor < 1000):
        raise InputError(f"{path} starts with version {major}.{minor}: it is not a darknet .weights file")
    header = DarknetHeader(major, minor, revision)
    length = struct.calcsize(header.format)
    if len(data) < length or (len(data) - length) % 4:
        raise InputError(
            f"{path} has {len(data)} bytes, not a header of {length} and whole float32 values: "
            "it is cut short"
        )
    seen = struct.unpack_from(header.format, data)[3]
    values = np.frombuffer(data, "<f4", offset=length).astype(np.float32)
    return DarknetHeader(major, minor, revision, seen), values


def _parts(net: HasConvBlocks) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) in the order of the file."""
    for number, block in net.conv_blocks():
        state = dict(block.state_dict(keep_vars=True))
        keys = (
            ["bn.bias", "bn.weight", "bn.running_mean", "bn.running_var"]
            if "bn.weight" in state
            else ["conv.bias"]
        )
        for key in [*keys, "conv.weight"]:
            yield f"layers.{number}.{key}", state[key]
