"""Where a function crosses from one level to the next, to the last bit."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sj_lowlat.kernels.table import LevelTable, tally

# f is sampled from -_REACH to _REACH, _FINE points a unit: two turns closer than that count as none. Further
# out it is taken to be monotone between powers of four.
_REACH, _FINE, _COARSE = 32, 128, 4
_TAIL = 32
# borders sought at once, and tries after which most are found
_BLOCK, _FAST = 1 << 14, 6


@torch.no_grad()
def level_table(
    fn: Callable[[Tensor], Tensor], scale: Tensor, levels: int, dtype: torch.dtype, channels: int | None
) -> LevelTable:
    r"""The table of :math:`\mathrm{clip}(\lfloor f(U \lambda / L) \, L / \lambda + 1/2 \rfloor, -L, L)`.

    f is computed in float64 on the CPU, and every border is the first number of ``dtype`` at which this level
    is reached, so that the table agrees with float64 at all numbers of ``dtype``. What that rests on:

    - within 32 of zero, f turns at most once on each 1/128; where it turns is found to rounding errors
    - beyond, it is monotone between :math:`32 \cdot 4^j`, and constant from 1e20 on
    - its float64 values are monotone where f is; a border at which they waver by rounding lies somewhere in
      there
    - where f is NaN, it counts as 0

    :param fn: f in float64, of ``[1, C, n]`` element by element
    :param scale: :math:`\lambda`, float64 on the CPU, scalar or ``[C]``
    :param levels: L
    :param dtype: of U: float32 or float64
    :param channels: C of a function of its own for each channel; ``None`` where all have one
    """
    own = 1 if channels is None else channels
    rows = max(own, scale.numel())
    scale = scale.reshape(-1, 1).expand(rows, 1)

    def function(z: Tensor) -> Tensor:
        return fn(z.unsqueeze(0)).squeeze(0).nan_to_num(0.0)

    def height(u: Tensor, clip: Tensor) -> Tensor:
        """f in levels and 1/2 more, by the operations of ``layers.QuantPointwise``; its clips only matter
        beyond the last level."""
        return function(u * (clip / levels)) * (levels / clip) + 0.5

    most = torch.finfo(dtype).max
    knots = (_knots(function, own) * (levels / scale)).clamp(-most, most).to(dtype).double()
    at = height(knots, scale).floor().clamp(-levels, levels)
    change = at.diff(dim=1)
    # one column for each level that a row passes
    passed = change.abs().cumsum(1)
    columns = torch.arange(int(passed[:, -1].max()), dtype=passed.dtype)
    part = tally(passed, len(columns)).cumsum(1)
    real = part < change.shape[1]
    part.clamp_(max=change.shape[1] - 1)
    up = change.gather(1, part) >= 0
    reached = columns - (passed - change.abs()).gather(1, part) + 1  # levels within this part
    new = at.gather(1, part) + torch.where(up, reached, -reached)
    inputs = [knots.gather(1, part), knots.gather(1, part + 1), up, new, scale.expand_as(new)]
    if channels is None:  # all borders of all rows in one, in blocks that stay in the cache
        blocks = zip(*(tensor[real].unsqueeze(0).split(_BLOCK, 1) for tensor in inputs), strict=True)
        each = [_first_reached(height, dtype, *block) for block in blocks]
        found = torch.full_like(new, torch.inf)
        found[real] = torch.cat(each, 1).squeeze(0)
    else:
        found = torch.where(real, _first_reached(height, dtype, *inputs), torch.inf)
    new = torch.where(real, new, at[:, -1:])
    # rounding errors of f can swap neighbours by a bit
    return LevelTable.of(found.to(dtype).cummax(1).values, torch.cat([at[:, :1], new], 1))


def _knots(function: Callable[[Tensor], Tensor], rows: int) -> Tensor:
    """Ascending z between which f is monotone, float64 ``[rows, n]``."""
    z = torch.linspace(-_REACH, _REACH, 2 * _REACH * _FINE + 1, dtype=torch.float64).expand(rows, -1)
    tail = _REACH * 4.0 ** torch.arange(1, _TAIL, dtype=torch.float64).expand(rows, -1)
    turns = _turns(function, z)
    return torch.cat([-tail, z[:, :: _FINE // _COARSE], turns, tail], 1).sort(1).values


def _turns(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Where f turns, ``[rows, n]``; rows that turn less often are filled up with 0.

    :param z: samples, ``[rows, K]``
    """
    f = function(z)
    slope = f.diff(dim=1)
    size = torch.maximum(f[:, 1:].abs(), f[:, :-1].abs())
    noise = 16 * torch.finfo(f.dtype).eps * size.clamp(min=float(f.abs().median()))
    sign = torch.where(slope.abs() > noise, slope.sign(), 0.0)
    steps = torch.arange(sign.shape[1]).expand_as(sign)
    last = torch.where(sign != 0, steps, 0).cummax(1).values  # the last slope so far
    before = sign.gather(1, last)
    turn = before[:, :-1] * sign[:, 1:] < 0
    many = int(turn.sum(1).max())
    if not many:
        return z[:, :0]
    which = turn.double().topk(many, 1, sorted=False).indices
    real = turn.gather(1, which)
    low, high = z.gather(1, last.gather(1, which)), z.gather(1, which + 2)
    up = before.gather(1, which)
    inner = torch.linspace(0, 1, 17, dtype=z.dtype)
    for _ in range(9):  # to 1e-8, where f is flat to the last bit
        tried = low[..., None] + (high - low)[..., None] * inner
        value = function(tried.flatten(1)).view_as(tried) * up[..., None]
        best = value.argmax(-1, keepdim=True)
        low = tried.gather(-1, (best - 1).clamp(min=0)).squeeze(-1)
        high = tried.gather(-1, (best + 1).clamp(max=16)).squeeze(-1)
    return torch.where(real, (low + high) / 2, 0.0)


def _first_reached(
    height: Callable[[Tensor, Tensor], Tensor],
    dtype: torch.dtype,
    low: Tensor,
    high: Tensor,
    up: Tensor,
    level: Tensor,
    clip: Tensor,
) -> Tensor:
    """The first number of ``dtype`` above ``low`` at which a level is reached, from below or, without ``up``,
    from above; at ``high`` it is. Tensors are ``[R, n]``, numbers in float64.

    A false position, moved towards the middle so that the bracket shrinks from both sides; where that is
    slow, also a bisection of the numbers that ``dtype`` has.
    """
    sign, border = 2.0 * up - 1, level + ~up
    least = (~up).double() * 5e-324  # downwards the border itself belongs to the level above

    def beyond(u: Tensor) -> Tensor:
        return (height(u, clip) - border) * sign

    result, where = high.clone(), torch.arange(high.shape[1])
    short, over = beyond(low), beyond(high)
    width = 5 * (high - low).clamp(min=torch.finfo(torch.float64).tiny)
    for step in range(400):
        size = high - low
        middle = 0.5 * size
        tried = size * (short / (short - over)).nan_to_num(0.5)
        move = size * size / width
        tried += (middle - tried).clamp(-move, move)
        tried = (tried + low).to(dtype).double()
        if step > _FAST:
            first, last = _order(low, dtype), _order(high, dtype)
            order = _order(tried, dtype) if step % 2 else (first >> 1) + (last >> 1) + (first & last & 1)
            tried = _number(torch.minimum(torch.maximum(order, first + 1), last - 1), dtype)
        off = beyond(tried)
        reached = off >= least
        low, short = torch.where(reached, low, tried), torch.where(reached, short, off)
        high, over = torch.where(reached, tried, high), torch.where(reached, off, over)
        if step < _FAST:
            continue
        result[:, where] = high
        open_ = (_order(high, dtype) > _order(low, dtype) + 1).any(0)
        if not open_.any():
            break
        where = where[open_]
        low, high, sign, border, least, clip, short, over, width = (
            tensor[:, open_] for tensor in (low, high, sign, border, least, clip, short, over, width)
        )
    return result


def _order(number: Tensor, dtype: torch.dtype) -> Tensor:
    """Of the numbers of a dtype: 0 is 0, the next larger one is 1."""
    whole = torch.int64 if dtype == torch.float64 else torch.int32
    bits = number.to(dtype).view(whole).long()
    return torch.where(bits < 0, torch.iinfo(whole).min - bits, bits)


def _number(order: Tensor, dtype: torch.dtype) -> Tensor:
    """The number of a place in the order, in float64."""
    whole = torch.int64 if dtype == torch.float64 else torch.int32
    bits = torch.where(order < 0, torch.iinfo(whole).min - order, order)
    return bits.to(whole).view(dtype).double()
