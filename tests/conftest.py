"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from sj_lowlat.kernels import FireRule

# a slow or busy machine is no failure; CI takes the same examples each time, developers find new ones
settings.register_profile("sj_lowlat", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("sj_lowlat")
# a shell lets its jobs in the background ignore it, and so would the commands that tests interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data (COCO, VOC, darknet weights); tests that need it are skipped where it is absent."""
    root = Path(__file__).parents[1]
    folder = Path(os.environ.get("SJ_LOWLAT_DATA", root.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(
            f"no data folder at {folder}: set SJ_LOWLAT_DATA to a folder with "
            "coco-subset, voc-subset and darknet"
        )
    return folder


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def scalar_neuron() -> Callable[..., tuple[list[int], float, int]]:
    """The neurons once more, one at a time, in plain Python; what kernels and layers are compared with."""

    def run(
        currents: Sequence[float],
        threshold: float,
        v: float,
        rule: FireRule,
    ) -> tuple[list[int], float, int]:
        """Spikes, V(T) and the net count of one neuron that starts at ``v``."""
        kind = "signed" if rule.counts else "imbalanced" if rule.slope else "if"
        max_count, slope, burst = rule.highest, rule.slope, rule.up
        spikes: list[int] = []
        count = 0
        for current in currents:
            v += current
            spike = 0
            if kind == "signed" and slope:  # one spike after another, towards where V has its place
                low, most = threshold / slope, float("inf") if max_count is None else max_count
                before = count * (low if count < 0 else threshold)

                def rest(number: int, whole: float = v + before, below: float = low) -> float:
                    return whole - number * (below if number < 0 else threshold)

                for _ in range(burst):
                    if count < most and rest(count) >= (0.5 * low if count < 0 else threshold):
                        count, spike = count + 1, spike + 1
                    elif count > -most and rest(count) < (0.0 if count > 0 else -0.5 * low):
                        count, spike = count - 1, spike - 1
                v -= count * (low if count < 0 else threshold) - before
                spikes.append(spike)
                continue
            if burst > 1:
                top = burst if kind == "if" or max_count is None else min(burst, max_count - count)
                low = 0 if kind == "if" else min(burst, count)
                while spike < top and v >= (spike + 1) * threshold:
                    spike += 1
                while -spike < low and v < spike * threshold:
                    spike -= 1
                v, count = v - spike * threshold, count + spike
                spikes.append(int(spike))
                continue
            may_fire = kind != "signed" or max_count is None or count < max_count
            if v >= threshold and may_fire:
                spike, v = 1, 0.0 if rule.hard_reset else v - threshold
            elif kind == "imbalanced" and v <= -(threshold / slope):
                spike, v = -1, v + threshold / slope
            elif kind == "signed" and v < 0 and count > 0:
                spike, v = -1, v + threshold
            count += spike
            spikes.append(spike)
        return spikes, v, count

    return run
