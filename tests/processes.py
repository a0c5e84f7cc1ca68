"""Two processes, as ``torchrun`` starts them."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import torch
import torch.multiprocessing as mp


def two_processes(work: Callable[..., None], *args: Any) -> None:
    """Run ``work(rank, *args)`` in both, to its end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # imported once for both
    multiprocessing.set_forkserver_preload(["sj_lowlat.cli.finetune", work.__module__])
    mp.start_processes(_started, (port, work, args), nprocs=2, start_method="forkserver")


def _started(rank: int, port: int, work: Callable[..., None], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    work(rank, *args)
