"""How a spiking network is run, and how that is written."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sj_lowlat.errors import InputError
from sj_lowlat.schedule import Schedule

SCHEDULES = st.builds(
    Schedule,
    time_steps=st.integers(1, 10**6),
    flush=st.integers(0, 10**6),
    burst=st.integers(1, 999),
    charge=st.none() | st.integers(1, 999),
    pre=st.integers(1, 999),
    rounds=st.integers(1, 99),
)


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("16", Schedule(16)),
        ("8+4", Schedule(8, 4)),
        (" 4+2b4 ", Schedule(4, 2, 4)),
        ("8+4c16", Schedule(8, 4, charge=16)),
        ("2b3", Schedule(2, burst=3)),
        ("2c8", Schedule(2, charge=8)),
        ("1+0b2c3", Schedule(1, 0, 2, 3)),
        ("16+0p8", Schedule(16, pre=8)),
        ("4p2", Schedule(4, pre=2)),
        ("4p2x3", Schedule(4, pre=2, rounds=3)),
        ("4+2b4c16p8", Schedule(4, 2, 4, 16, 8)),
    ],
)
def test_written_forms(text: str, schedule: Schedule) -> None:
    assert Schedule.parse(text) == schedule


@given(schedule=SCHEDULES)
def test_what_is_written_is_read_again(schedule: Schedule) -> None:
    plain = replace(schedule, pre=0, rounds=1)
    assert Schedule.parse(str(plain)) == plain
    assert Schedule.parse(str(schedule)) == schedule
    assert Schedule(**schedule.to_json()) == schedule  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-4",
        "4+",
        "4+-1",
        "4b0",
        "4c0",
        "4p0",
        "4p8c8",
        "4x2",
        "4p8x0",
        "4c8b2",
        "4 + 2",
        "4+2x",
        "four",
    ],
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(
        InputError, match=r"write time steps, \+ flush, b burst, c charge, p pre-steps, x rounds, as in 16"
    ):
        Schedule.parse(text)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"time_steps": 0}, "time_steps is 0, it must be a whole number of at least 1; for instance 16"),
        ({"time_steps": True}, "time_steps is True"),
        ({"time_steps": "4"}, "time_steps is '4'"),
        ({"flush": -1}, "flush is -1, .* at least 0; 0 for none"),
        ({"flush": 1.0}, "flush is 1.0"),
        ({"burst": 0}, "burst is 0, .* 1 for single spikes"),
        ({"rounds": 0}, "rounds is 0, .* at least 1; 1 for one correction"),
        ({"rounds": 2}, "rounds is 2 without pre-steps; give pre"),
        ({"pre": -1}, "pre is -1, .* at least 0; 0 for none"),
        ({"charge": 0}, "charge is 0, .* or None for the levels of the network"),
    ],
)
def test_numbers_that_cannot_be(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Schedule(**{"time_steps": 4, **values})


def test_latency_and_gain() -> None:
    schedule = Schedule(4, 2, 3, charge=8)
    assert (schedule.total, schedule.unit_steps, schedule.gain) == (6, 18, 2.0)
    schedule = Schedule(4, 2, 3, charge=8, pre=5, rounds=2)
    assert (schedule.before, schedule.total, schedule.unit_steps, schedule.gain) == (10, 16, 48, 2.0)
    with pytest.raises(InputError, match="charge of this schedule is not known"):
        _ = Schedule(4).gain
    with pytest.raises(FrozenInstanceError):
        schedule.burst = 1  # type: ignore[misc]


def test_as_the_arguments_of_version_0_1() -> None:
    assert dict(**Schedule(4, 2, 3, 8)) == {"time_steps": 4, "flush": 2, "burst": 3, "levels": 8}
    assert dict(**Schedule(4))["levels"] is None
