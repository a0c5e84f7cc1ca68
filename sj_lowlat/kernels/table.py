"""The levels of any function of the charge, as a table of the borders between them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sj_lowlat.errors import InputError

# borders of a cell near the centre, about
_CELL = 4
# cells of one side: how often their size may double
_OCTAVES = 24
_MANTISSA = 23  # bits of a float32


@dataclass(frozen=True)
class LevelTable:
    r"""A level for every charge U: that of the last border which U has reached.

    A row is one function, for a whole layer (R = 1) or for a channel (R = C). The kernels do not search whole
    rows: they are cut into cells, of one size around the centre and twice as large where :math:`|U - centre|`
    doubles, and of each cell the first border is known. The cell of U is the top bits of the float32
    :math:`|U - centre| + spread`, which is exact for this purpose: however these operations round, the cell
    never falls where U grows.

    :param steps: ``[R, W, 2]`` in the dtype of V: the borders, ascending, and the level before each; behind
        the last border infinity and the last level
    :param centre: of the shortest part of a row that has half of its borders, ``[R]``
    :param spread: half the length of that part, ``[R]``
    :param first: of each cell 32 times its first border, counted through all rows, and the comparisons that
        a search in it takes, int32 ``[R, cells]``
    :param left: cells below the centre
    :param shift: bits of a float32 that a cell leaves out
    :param rounds: comparisons that are enough in any cell, a power of two (or 26): each has own kernels
    """

    steps: Tensor
    centre: Tensor
    spread: Tensor
    first: Tensor
    left: int
    shift: int
    rounds: int

    @classmethod
    def of(cls, borders: Tensor, levels: Tensor) -> LevelTable:
        """The table of sorted borders.

        :param borders: ``[R, M]``, ascending, in the dtype of V; behind the last one of a row infinity
        :param levels: before each border and behind the last one, whole numbers ``[R, M + 1]``
        """
        rows, most = borders.shape
        finite = borders.isfinite()
        centre, spread = _shortest_half(borders, finite.sum(1, keepdim=True))
        bits = max(1, most // _CELL).bit_length()
        shift = _MANTISSA - min(bits, _MANTISSA - 1)
        away = borders - centre
        size = _bits(away.abs() + spread) - _bits(spread) >> shift
        size = size.clamp(max=(_OCTAVES << _MANTISSA >> shift) - 1)
        below = away < 0
        left, right = (
            int(torch.where(side & finite, size + 1, 1).max()) if most else 1 for side in (below, ~below)
        )
        cell = torch.where(finite, torch.where(below, left - 1 - size, left + size), left + right)
        inside = tally(cell, left + right)
        most_needed = int(inside.max()).bit_length()
        needed = torch.zeros_like(inside)  # the bit length of the number of borders
        for bit in range(most_needed):
            needed += inside >= 1 << bit
        width = most + (1 << most_needed)  # a search that starts at the last border stays in its row
        if rows * width > 1 << 26:
            raise InputError(f"a table of {rows} x {width} borders is too large: give fewer levels")
        start = width * torch.arange(rows, dtype=torch.int32, device=inside.device)[:, None]
        first = 32 * (inside.cumsum(1, dtype=torch.int32) - inside + start) + needed
        steps = borders.new_full((rows, width, 2), torch.inf)
        steps[:, :most, 0] = borders
        steps[:, :, 1] = levels[:, -1:]
        steps[:, : most + 1, 1] = levels
        rounds = min(1 << max(0, most_needed - 1).bit_length(), 26)  # more do not fit either
        return cls(steps, centre[:, 0], spread[:, 0], first, left, shift, rounds)

    def to(self, device: torch.device) -> LevelTable:
        """The table on a device."""
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    def check(self, v: Tensor) -> None:
        """Refuse potentials ``[N, C, *]`` that the table is not for.

        :raises InputError: for another dtype, device or number of channels
        """
        rows, own = len(self.steps), (self.steps.dtype, self.steps.device)
        if rows > 1 and v.shape[1:2] != (rows,):
            raise InputError(
                f"v is {tuple(v.shape)}, the table has {rows} rows: it needs 1, or one a channel"
            )
        if (v.dtype, v.device) != own:
            raise InputError(f"v is {v.dtype} on {v.device}, the table {own[0]} on {own[1]}: make one like v")

    def level(self, u: Tensor) -> Tensor:
        """Levels of charges ``[N, C, *]`` (R = 1: of any shape); that of NaN is NaN."""
        rows, width = self.steps.shape[:2]
        borders, levels = self.steps.unbind(-1)
        by_row = (u if rows == 1 else u.movedim(1, 0)).reshape(rows, -1).contiguous()
        at = torch.searchsorted(borders.contiguous(), by_row, right=True).clamp_(max=width - 1)
        level = levels.gather(1, at)
        level = level.view(u.shape) if rows == 1 else level.view(u.movedim(1, 0).shape).movedim(0, 1)
        return torch.where(u.isnan(), u, level)


def _shortest_half(borders: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and half the length of the shortest part of a row that has half of its borders, ``[R, 1]``.

    :param number: of borders in each row ``[R, 1]``
    """
    zero = torch.zeros_like(number, dtype=borders.dtype)
    if not borders.shape[1]:
        return zero, zero + 1
    start = torch.arange(borders.shape[1], device=borders.device).expand_as(borders)
    end = (start + number // 2).clamp(max=borders.shape[1] - 1)
    length = (borders.gather(1, end) - borders).nan_to_num(torch.inf)
    length = torch.where(start + number // 2 < number, length, torch.inf)
    at = length.argmin(1, keepdim=True)
    low, half = borders.gather(1, at), length.gather(1, at) / 2
    none = number == 0
    largest = torch.where(borders.isfinite(), borders, 0).abs().amax(1, keepdim=True)
    # not so small that its doubling takes more cells than there are; a float32
    half = torch.maximum(half, largest / 2**_OCTAVES).clamp(1e-30, 1e30).float().to(borders.dtype)
    return torch.where(none, zero, low + half), torch.where(none, zero + 1, half)


def _bits(number: Tensor) -> Tensor:
    return number.float().view(torch.int32)


def tally(numbers: Tensor, size: int) -> Tensor:
    """How often each whole number below ``size`` is in each row, int32 ``[R, size]``.

    :param numbers: whole, not negative, ``[R, n]``
    """
    one = torch.ones((), dtype=torch.int32, device=numbers.device).expand(numbers.shape)
    counts = numbers.new_zeros(len(numbers), size + 1, dtype=torch.int32)
    return counts.scatter_add_(1, numbers.long().clamp(max=size), one)[:, :-1]
