"""Tables of level borders: they say what float64 says, and all kernels say the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sj_lowlat.errors import InputError
from sj_lowlat.kernels import FireRule, LevelTable, level_table, multi_step
from sj_lowlat.kernels.memory import SpikeSums

Function = Callable[[Tensor], Tensor]
FUNCTIONS: dict[str, Function] = {
    **{kind.__name__: kind() for kind in (
        nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.Mish, nn.GELU, nn.ELU, nn.Softplus,
    )},
    "tanh of GELU": nn.GELU("tanh"),
    "PReLU": nn.PReLU().double().requires_grad_(False),
    "PReLU that turns": nn.PReLU(init=-0.7).double().requires_grad_(False),
    "sine": lambda z: torch.sin(2 * z),
    "step": lambda z: (z > 0.3).double() - 2 * (z > 0.6).double(),
    "steep": lambda z: torch.tanh(1e4 * (z - 1)) + 0.1 * z,
    "root": lambda z: torch.sqrt(z),  # NaN below 0
    "constant": lambda z: 0 * z,
}  # fmt: skip
functions, levels_of = st.sampled_from(list(FUNCTIONS)), st.sampled_from([1, 2, 3, 8, 17, 64, 300])
scales = st.sampled_from([1e-3, 0.05, 0.4, 1.0, 6.0, 70.0])
seeds = st.integers(0, 2**31)


def height(fn: Function, u: Tensor, scale: Tensor, levels: int) -> Tensor:
    """f in levels and 1/2 more, in float64, as QuantPointwise computes it."""
    y = fn(u.double() * (scale / levels)).nan_to_num(0.0)
    return torch.maximum(torch.minimum(y, scale), -scale) * (levels / scale) + 0.5


def draw_scale(scale: float, channels: int | None) -> Tensor:
    shape = () if channels is None else (channels,)
    return scale * (torch.rand(shape, dtype=torch.float64) + 0.5)


@settings(max_examples=150)
@given(
    name=functions,
    levels=levels_of,
    scale=scales,
    channels=st.one_of(st.none(), st.integers(1, 4)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=seeds,
)
def test_says_what_float64_says(
    name: str, levels: int, scale: float, channels: int | None, dtype: torch.dtype, seed: int
) -> None:
    torch.manual_seed(seed)
    fn, clip = FUNCTIONS[name], draw_scale(scale, channels)
    table = level_table(fn, clip, levels, dtype, None)
    borders = table.steps[..., 0]
    wide = clip.view(-1, 1)
    drawn = 32 * (2 * torch.rand(len(borders), 2000, dtype=torch.float64) - 1) * levels / wide
    drawn *= torch.rand(2000, dtype=torch.float64) ** 4
    around = [borders.nextafter(torch.full_like(borders, end)) for end in (-torch.inf, torch.inf)]
    u = torch.cat([drawn.to(dtype), borders, *around], 1)
    far = name == "sine" and (u * (wide / levels)).abs() > 32  # where it should be monotone
    u = torch.where(u.isfinite() & ~torch.as_tensor(far), u, 0)
    q = height(fn, u, wide, levels)
    have = table.level(u.T.contiguous()).T  # [N, C]
    wrong = have != q.floor().clamp(-levels, levels)
    # in float64 f itself wavers in its last bits, GELU in those of its argument
    if dtype == torch.float64:
        wrong &= (q - q.round()).abs() > 1e-12 * (1 + q.abs()) + 1e-15 * u.abs()
    assert not wrong.any()


@pytest.mark.parametrize("name", ["SiLU", "Mish", "GELU", "Hardswish"])
def test_a_dip_of_any_depth_is_found(name: str) -> None:
    """The level at the lowest value is reached within a few numbers only, wherever its border lies."""
    fn = FUNCTIONS[name]
    z = torch.linspace(-3, 0, 300001, dtype=torch.float64)
    lowest = float(fn(z).min())
    for rest in 10.0 ** -torch.arange(3, 13, dtype=torch.float64):
        levels, scale = 8, -lowest * 8 / 2.5 * (1 - rest)  # the border to -3 lies just above it
        table = level_table(fn, scale, levels, torch.float64, None)
        u = z[fn(z).argmin()] * levels / scale
        assert float(table.level(u.view(1))) == -3


@settings(max_examples=60)
@given(
    name=functions,
    levels=levels_of,
    scale=scales,
    shape=st.sampled_from([(5, 2, 3), (3, 1, 4, 3, 2), (3, 2, 5, 41, 23)]),
    per_channel=st.booleans(),
    layout=st.sampled_from(["contiguous", "channels_last", "constant", "gaps"]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
    spike_dtype=st.sampled_from([None, torch.int8, torch.bfloat16, torch.float32]),
    burst=st.integers(1, 5),
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    seed=seeds,
)
def test_kernels_are_the_reference(
    place: tuple[str, str],
    cuda_as_cpp: Any,
    name: str,
    levels: int,
    scale: float,
    shape: tuple[int, ...],
    per_channel: bool,
    layout: str,
    dtype: torch.dtype,
    spike_dtype: torch.dtype | None,
    burst: int,
    grid: tuple[int, int],
    seed: int,
) -> None:
    torch.manual_seed(seed)
    device, kernel = place
    cuda_as_cpp.grid = grid
    clip = draw_scale(scale, shape[2] if per_channel else None)
    membrane = torch.float64 if dtype == torch.float64 else torch.float32
    table = level_table(FUNCTIONS[name], clip, levels, membrane, None).to(torch.device(device))
    size = 10 ** float(torch.empty(()).uniform_(-1, 2))
    currents = (size * torch.randn(shape)).to(device, dtype)
    borders = table.steps[..., 0]
    if layout == "channels_last":
        currents = currents.movedim(2, -1).contiguous().movedim(-1, 2)
    elif layout == "constant":
        currents = currents[:1].expand_as(currents)
    elif layout == "gaps":
        currents = currents.repeat_interleave(2, dim=-1)[..., ::2]
    v = torch.zeros(shape[1:], dtype=membrane, device=device)
    if bool(borders.isfinite().any()):  # V starts on borders
        finite = borders[borders.isfinite()]
        v = finite[torch.randint(len(finite), shape[1:])]
    rule, results = FireRule.table(levels, burst), []
    for name_of in ("reference", kernel):
        state, sums = [v.clone(), torch.zeros_like(v)], SpikeSums.of(v)
        for _ in range(2):  # the state goes on
            spikes = multi_step(
                currents, state[0], v.new_ones(()), rule, state[1], name_of, spike_dtype, sums, table
            )
        results.append((spikes, *state, *vars(sums).values()))
    assert spikes.dtype == (spike_dtype or dtype) and int(spikes.abs().max()) <= burst
    for want, have in zip(*results, strict=True):
        assert torch.equal(want, have)


def test_numbers_at_the_ends_of_the_range(place: tuple[str, str]) -> None:
    device, kernel = place
    table = level_table(nn.Sigmoid(), torch.tensor([1.0, 0.4], dtype=torch.float64), 7, torch.float32, None)
    borders = torch.tensor([[-1e-42, 0.0, 1e-42], [-3e38, 1.0, 3e38]])
    tables = [table, LevelTable.of(borders, torch.tensor([[0, 1, 2, 3], [3, 1, -1, 0]]))]
    tiny, big, inf = 1e-42, 3e38, float("inf")
    values = [tiny, -tiny, 0.0, -0.0, big, -big, inf, -inf, float("nan"), 1.0, -2e-42, 2e-42]
    currents = torch.tensor(values, device=device).expand(2, 2, -1).movedim(-1, 1).unsqueeze(0)
    currents = currents.expand(2, -1, -1, -1).movedim(2, 3).contiguous()  # [T, N, C, *]
    for each in tables:
        results = []
        for name in ("reference", kernel):
            v, count = torch.zeros(2, *currents.shape[1:], device=device)
            v[:] = 0
            spikes = multi_step(
                currents, v, v.new_ones(()), FireRule.table(7, 7), count, name,
                table=each.to(torch.device(device)),
            )  # fmt: skip
            results.append((spikes, v, count))
        for want, have in zip(*results, strict=True):
            assert torch.allclose(want, have, rtol=0, atol=0, equal_nan=True)


def test_bad_input() -> None:
    table = level_table(nn.SiLU(), torch.ones(3, dtype=torch.float64), 4, torch.float32, None)
    currents, v = torch.zeros(3, 2, 3), torch.zeros(2, 3)
    one, rule = torch.ones(()), FireRule.table(4)
    with pytest.raises(InputError, match="'table', which needs one"):
        multi_step(currents, v, one, rule, v.clone())
    with pytest.raises(InputError, match="'linear'"):
        multi_step(currents, v, one, FireRule.signed(), v.clone(), table=table)
    with pytest.raises(InputError, match="v is torch.float64 on cpu, the table torch.float32"):
        multi_step(currents.double(), v.double(), one.double(), rule, v.double(), table=table)
    with pytest.raises(InputError, match=r"\(2, 4\), the table has 3 rows"):
        multi_step(torch.zeros(3, 2, 4), torch.zeros(2, 4), one, rule, torch.zeros(2, 4), table=table)
    with pytest.raises(InputError, match="max_count is 0"):
        FireRule.table(0)
