"""Checks of what a simulation is given, and its chunk size: steps per pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from sj_lowlat.allocator import is_kept
from sj_lowlat.errors import InputError
from sj_lowlat.layers import Clock, PreStepsIFNode, SignedIFNode
from sj_lowlat.schedule import Schedule

MODES = ("steps", "counts")


# Bytes of the largest tensor. On a CPU several steps feed the convolutions better than one; but beyond 32 MiB
# the C library asks the system for fresh memory at every call, which costs more than neurons: 28 keep clear,
# unless freed memory stays with the process.
_ON_A_CPU, _WHERE_KEPT, _ON_A_GPU = 28 << 20, 96 << 20, 256 << 20
_MOST = 32


def chunk_for(clock: Clock, images: torch.Tensor) -> int:
    """Steps per pass: as many as fit the budget; 2 for a network that is new to images of this size."""
    size = clock.sizes.get(tuple(images.shape[1:]))
    if size is None:
        return 2  # the fewest that show whether the input is constant
    budget = _ON_A_GPU
    if images.device.type == "cpu":
        budget = _WHERE_KEPT if is_kept() else _ON_A_CPU
    return max(1, min(_MOST, budget // (size * len(images))))


def check_readout(schedule: Schedule, readout: Sequence[int] | None) -> tuple[int, ...]:
    """Check the steps at which the output is wanted.

    :return: the read-out steps, ascending, each once; the last step if none are given
    :raises InputError: if one of them is not possible
    """
    total, first = schedule.total, schedule.before + 1
    if readout is None:
        return (total,)
    steps = tuple(readout) if isinstance(readout, Iterable) else ()
    if not steps or any(
        isinstance(s, bool) or not isinstance(s, int) or not first <= s <= total for s in steps
    ):
        sum_ = "pre x rounds + time_steps + flush" if schedule.pre else "time_steps + flush"
        raise InputError(
            f"readout is {readout!r}, it must be a sequence of steps from {first} to {total} ({sum_}), "
            f"for instance ({total},)"
        )
    return tuple(sorted(set(steps)))


def correcting(neurons: Sequence[object]) -> list[PreStepsIFNode]:
    """The neurons of a run with pre-steps.

    :raises InputError: if one of them cannot correct its start
    """
    able = [neuron for neuron in neurons if isinstance(neuron, PreStepsIFNode)]
    if len(able) < len(neurons):
        other = sorted(
            {type(neuron).__name__ for neuron in neurons if not isinstance(neuron, PreStepsIFNode)}
        )
        raise InputError(
            f"the schedule has pre-steps, after which neurons correct V(0), and {', '.join(other)} cannot: "
            "convert with neuron='srp' or 'cos', or leave out pre"
        )
    return able


def check_mode(mode: str, readout: Sequence[int] | None, constant: bool, neurons: Sequence[object]) -> None:
    """:raises InputError: if there is no such mode, or it cannot give what is asked for"""
    if mode not in MODES:
        raise InputError(f"mode is {mode!r}, it must be one of {', '.join(MODES)}")
    if mode == "steps":
        return
    if readout is not None:
        raise InputError(
            "mode='counts' knows the settled network only: leave readout out, or use mode='steps'"
        )
    if not constant:
        raise InputError("mode='counts' needs the constant encoder: other input does not settle")
    if any(getattr(neuron, "powers", False) for neuron in neurons):
        raise InputError(
            "mode='counts' fires all spikes in one step, and this network's are powers of two: use "
            "mode='steps', or set powers=False of its neurons, which settle to the same counts"
        )
    other = sorted({type(neuron).__name__ for neuron in neurons if not isinstance(neuron, SignedIFNode)})
    if other:
        raise InputError(
            f"mode='counts' is for signed neurons, which settle; this network has {', '.join(other)}: "
            "convert with neuron='signed', or use mode='steps'"
        )


def check_images(images: Any, shape: tuple[int, ...] | None = None) -> None:
    """:raises InputError: if they are no finite images, or one without a batch

    :param shape: of one image, where it is known
    """
    if not isinstance(images, torch.Tensor):
        raise InputError(
            f"images are {type(images).__name__}; they must be a floating-point tensor [N, C, H, W]"
        )
    if images.dim() < 2 or not images.numel() or not images.is_floating_point():
        raise InputError(
            f"images are {tuple(images.shape)} of {images.dtype}; they must be a floating-point tensor "
            "[N, C, H, W] in [0, 1] with N at least 1"
        )
    if shape is not None and images.dim() == len(shape):
        raise InputError(f"one image {list(images.shape)} came without a batch: give images[None], [1, *]")
    if shape is not None and images.shape[1] != shape[0]:
        raise InputError(
            f"images have {images.shape[1]} channels, {list(images.shape)}; the network takes {shape[0]}"
        )
    if not bool(torch.isfinite(images).all()):
        raise InputError("images hold NaN or infinite values; give finite images in [0, 1]")
