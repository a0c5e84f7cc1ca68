"""Freed memory stays with a process that asks for it; simulations then run longer passes."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest
import torch

from sj_lowlat import allocator
from sj_lowlat.allocator import keep_freed_memory
from sj_lowlat.layers import Clock
from sj_lowlat.simulation import plan

FAULTS = """
import json, resource, sys, torch
from sj_lowlat.allocator import is_kept, keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else is_kept()
for _ in range(20):
    torch.ones(64 << 20, dtype=torch.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(64 << 20, dtype=torch.uint8)
print(json.dumps([kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before]))
"""


def run(word: str) -> tuple[bool, int]:
    done = subprocess.run([sys.executable, "-c", FAULTS, word], capture_output=True, text=True, check=True)
    kept, faults = json.loads(done.stdout)
    return kept, faults


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_memory_stays() -> None:
    """The system hands out no page a second time."""
    (kept, few), (not_kept, many) = run("keep"), run("not")
    assert kept and not not_kept
    assert 10 * few < many


def test_another_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator, "_kept", False)  # another test of this process may have asked for it
    keep_freed_memory.cache_clear()
    assert keep_freed_memory() is False
    keep_freed_memory.cache_clear()


def test_passes_are_longer_where_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, images = Clock(), torch.zeros(1, 3, 8, 8)
    clock.sizes[tuple(images.shape[1:])] = 12 << 20
    monkeypatch.setattr(allocator, "_kept", False)
    assert plan.chunk_for(clock, images) == 2
    monkeypatch.setattr(allocator, "_kept", True)
    assert plan.chunk_for(clock, images) == 8
