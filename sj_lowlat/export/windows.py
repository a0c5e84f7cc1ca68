"""Sizes of maps behind windows that move over them."""

from __future__ import annotations

from collections.abc import Sequence


def sides_behind(
    shape: Sequence[int],
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
) -> tuple[int, ...]:
    """Height and width behind a convolution or a pool of ``[C, H, W]``, rounded down."""
    return tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(shape[1:], size, stride, padding, dilation, strict=True)
    )
