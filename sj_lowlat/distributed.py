"""One run in several processes, as ``torchrun`` starts them: who does what, and what they tell each other.

In a single process nothing here does anything. Functions that talk must be called by all processes.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sj_lowlat.errors import InputError

TIMEOUT = timedelta(minutes=30)
"""A process that waits for another one for longer gives up."""

RecordT = TypeVar("RecordT")


def processes() -> int:
    """Number of processes of this run.

    :raises InputError: if several were started, but do not know of each other
    """
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size()
    if asked() > 1:
        raise InputError(
            f"{asked()} processes were started and torch.distributed is not initialised, so each would do the"
            " whole work: call torch.distributed.init_process_group('cpu:gloo,cuda:nccl') first, or start one"
        )
    return 1


def asked() -> int:
    """Number of processes that ``torchrun`` started, by the environment variable ``WORLD_SIZE``.

    :raises InputError: if it is no whole number
    """
    text = os.environ.get("WORLD_SIZE") or "1"
    if not text.isdecimal() or not int(text):
        raise InputError(f"WORLD_SIZE is {text!r}: it is the number of processes; torchrun sets it")
    return int(text)


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if processes() > 1 else 0


def is_main() -> bool:
    """Whether this process is the one that writes files and shows progress."""
    return rank() == 0


def share(count: int) -> range:
    """The places of ``count`` that are this process's, equal up to one.

    :raises InputError: if there are fewer than processes
    """
    number, own = processes(), rank()
    if count < number:
        raise InputError(
            f"a batch of {count} cannot be shared by {number} processes: make batch_size larger, or start"
            f" at most {count}"
        )
    return range(count * own // number, count * (own + 1) // number)


def total(value: Tensor) -> Tensor:
    """The sum over all processes; the gradient flows back to all of them."""
    return _Sum.apply(value) if processes() > 1 else value


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, value: Tensor) -> Tensor:
        value = value.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(value)
        return value

    @staticmethod
    def backward(_ctx: Any, grad: Tensor) -> Tensor:
        return _Sum.apply(grad)


def totals(*counts: int) -> list[int]:
    """The sums of whole numbers over all processes."""
    if processes() == 1:
        return list(counts)
    numbers = torch.tensor(counts)
    dist.all_reduce(numbers)
    return numbers.tolist()


def gathered(record: RecordT) -> list[RecordT]:
    """The records of all processes, in their order."""
    records = [record] * processes()
    if len(records) > 1:
        dist.all_gather_object(records, record)
    return records


def check_same(settings: Mapping[str, Any]) -> None:
    """:raises InputError: naming the first setting that another process has differently"""
    first, *others = gathered(dict(settings))
    for number, other in enumerate(others, start=1):
        for name, value in first.items():
            if other[name] != value:
                raise InputError(
                    f"{name} is {value!r} in process 0 and {other[name]!r} in process {number}: start all"
                    " with the same command, data and output folder (one that all machines share)"
                )


def parallel(network: nn.Module) -> nn.Module:
    """A network whose gradients are summed over all processes, and which starts as that of process 0."""
    if processes() == 1:
        return network
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view")  # where sides of 1 are
    # static: parameters without a gradient are no error
    wrapped = DistributedDataParallel(network, static_graph=True)
    wrapped.register_comm_hook(None, _summed)  # without one, DDP divides by the number of processes
    return wrapped


def _summed(_state, bucket):  # type: ignore[no-untyped-def]  # DDP refuses annotations that are strings
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda future: future.value()[0])


def own_gpu(device: torch.device) -> torch.device:
    """This process's GPU, for the device ``cuda``.

    :raises InputError: if a machine has more processes than GPUs, or all would take one
    """
    if processes() == 1:
        return device
    local, there = dist.get_node_local_rank(rank()), torch.cuda.device_count()
    if device.index is not None or local >= there:
        raise InputError(
            f"each process needs a GPU of its own: device is {device}, and this is process {local} of a"
            f" machine with {there}; give --device cuda and start at most one process a GPU, or give"
            " --device cpu"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


@contextmanager
def joined() -> Iterator[None]:
    """Context manager: the processes that ``torchrun`` started know of each other.

    :raises InputError: if they cannot meet
    :raises OSError: if another one ends before this one, or does not answer in time
    """
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, timeout=TIMEOUT)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"WORLD_SIZE is {asked()}, but the processes do not find each other ({error}): start them by"
            " torchrun --nproc-per-node N -m sj_lowlat ..., or unset WORLD_SIZE"
        ) from error
    try:
        yield
    except RuntimeError as error:
        # gloo has no class of errors of its own
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        reason = re.sub(r"^\[[^]]*\] |\. .*", "", str(error).splitlines()[0])  # without lines of C++, advice
        raise OSError(
            f"another process of this run ended or did not answer ({reason}): its own message says why. Files"
            " are whole; give the same command again, a training goes on from its last checkpoint"
        ) from error
    dist.destroy_process_group()
