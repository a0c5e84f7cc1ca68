"""One watched picture against the same run unwatched, and steps that are looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sj_lowlat.data import letterbox, read_image
from sj_lowlat.errors import InputError
from sj_lowlat.evaluation import energy
from sj_lowlat.evaluation.energy import AC_PJ, MAC_PJ
from sj_lowlat.evaluation.predict import predict
from sj_lowlat.monitors import FiringRateMonitor, RemainderMonitor, SynOpMonitor
from sj_lowlat.network import ConversionReport
from sj_lowlat.report import shown_steps, watch_picture
from sj_lowlat.report.rows import layer_rows
from sj_lowlat.schedule import Schedule
from sj_lowlat.simulation import simulate

PLAN = Schedule(4, 2, burst=2, charge=4)


def test_readings_are_those_of_runs_that_end_there(snn: Any, pictures: list[Path]) -> None:
    image = read_image(pictures[1])
    watched = watch_picture(snn, image, PLAN, min_score=0.1)
    assert [reading.step for reading in watched.readings] == [1, 2, 3, 4, 5, 6]
    x, box = letterbox(image, 64)
    for reading in watched.readings:
        with SynOpMonitor(snn) as operations, FiringRateMonitor(snn) as rates:
            (read,) = predict(snn, x[None], [box], (0.1, 0.45, 100), schedule=PLAN, readout=(reading.step,))
        alone = read.detections[0]
        torch.testing.assert_close(reading.detections.boxes, alone.boxes)
        torch.testing.assert_close(reading.detections.scores, alone.scores)
        assert torch.equal(reading.detections.labels, alone.labels)
        assert (reading.synops, reading.macs) == (operations.synops, operations.macs)
        assert reading.spikes == sum(layer.spikes for layer in rates.layers())
    assert len(watched.readings[-1].detections)


def test_drawn_steps_are_those_asked_for_and_the_last(snn: Any, pictures: list[Path]) -> None:
    image = read_image(pictures[0])
    watched = watch_picture(snn, image, PLAN, steps=(1, 3, 5))
    drawn = watched.drawn((1, 2))
    assert [step for step, _ in drawn] == [1, 5]
    assert all(picture.shape == image.shape for _, picture in drawn)
    blank = watched.drawn((1,), min_score=1.0)
    assert torch.equal(blank[0][1], image)


def test_pre_steps_are_refused(snn: Any, pictures: list[Path]) -> None:
    with pytest.raises(InputError, match="pre-steps, which cannot be watched"):
        watch_picture(snn, read_image(pictures[0]), Schedule(4, pre=2))


@given(
    time_steps=st.integers(1, 400), flush=st.integers(0, 100), most=st.integers(8, 20), pre=st.integers(0, 9)
)
def test_shown_steps_are_all_or_the_first_and_the_last(
    time_steps: int, flush: int, most: int, pre: int
) -> None:
    plan = Schedule(time_steps, flush, pre=pre)
    steps = shown_steps(plan, most)
    count = time_steps + flush
    assert steps[0] == pre + 1 and steps[-1] == plan.total and len(steps) <= most
    assert list(steps) == sorted(set(steps))
    assert steps[:6] == tuple(range(pre + 1, pre + 1 + min(6, count)))
    if count <= most:
        assert len(steps) == count


def test_rows_add_up_to_what_monitors_count(snn: Any) -> None:
    with (
        FiringRateMonitor(snn) as rates,
        RemainderMonitor(snn, max_count=4) as rest,
        SynOpMonitor(snn) as ops,
    ):
        simulate(snn, torch.rand(3, 3, 64, 64), PLAN)
    report = snn.info.report
    rows = layer_rows(report, rates, rest, ops)
    assert [row.layer for row in rows] == [layer.layer for layer in report.layers]
    assert sum(row.acs or 0 for row in rows) == pytest.approx(ops.synops / 3)
    spent = energy(ops, rates)
    assert sum(row.microjoules or 0 for row in rows) == pytest.approx(spent.snn_pj / 1e6)
    assert spent.snn_pj == pytest.approx(ops.synops / 3 * AC_PJ + ops.macs / 3 * MAC_PJ)
    by_neurons = {layer.activation: row for layer, row in zip(report.layers, rows, strict=True)}
    for fired, left in zip(rates.layers(), rest.layers(), strict=True):
        row = by_neurons[fired.name]
        assert (row.rate, row.neurons) == (fired.rate, fired.neurons)
        assert (row.exact, row.over, row.under) == (left.exact, left.over_fired, left.under_fired)
        assert row.remainder == left.mean_abs_re
    head = rows[-1]
    assert head.neurons is head.rate is head.exact is None and head.acs and head.fires_as == "RateReadout"
    for unknown in (None, ConversionReport()):  # a network without the record of its conversion
        apart = layer_rows(unknown, rates, rest, ops)
        assert len(apart) == len(ops.layers()) + len(rates.layers())
        assert sum(row.microjoules or 0 for row in apart) == pytest.approx(spent.snn_pj / 1e6)
        assert [row.rate for row in apart[len(ops.layers()) :]] == [layer.rate for layer in rates.layers()]
