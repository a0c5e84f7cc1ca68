"""Quantised ReLU with a learned clip."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from sj_lowlat import functional
from sj_lowlat.errors import InputError

# elements that a pass takes at once, so that the next pass over them finds them in the cache
_BLOCK = 1 << 18


def _blocks(clip: torch.Tensor, *tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """The same elements of all tensors, block by block as they lie in memory, where all lie the same way; and
    first the clip, in a shape that fits each block."""
    first = tensors[0]
    last = first.dim() == 4 and first.is_contiguous(memory_format=torch.channels_last)
    alike = (last or first.is_contiguous()) and all(t.stride() == first.stride() for t in tensors)
    if first.device.type != "cpu" or first.numel() <= _BLOCK or not alike:
        yield clip, *tensors
        return
    parts: list[torch.Tensor]
    if not clip.dim():
        size, parts = _BLOCK, [t.as_strided((t.numel(),), (1,)) for t in tensors]
    elif last:  # a row for each place
        size, parts = _BLOCK // clip.numel(), [t.permute(0, 2, 3, 1).flatten(0, 2) for t in tensors]
        clip = clip.flatten()
    else:  # whole images
        size, parts = _BLOCK * len(first) // first.numel(), [t.flatten(2) for t in tensors]
        clip = clip.view(-1, 1)
    for block in zip(*(part.split(max(size, 1)) for part in parts), strict=True):
        yield clip, *block


# one operation for autograd, torch.export and torch.compile, none of which may look inside: it asks for sizes
@torch.library.custom_op(
    "sj_lowlat::quant_relu",
    mutates_args=(),
    schema="(Tensor z, Tensor clip, int levels, float slope) -> Tensor",
)
def _quant_relu(z: torch.Tensor, clip: torch.Tensor, levels: int, slope: float) -> torch.Tensor:
    out = torch.empty_like(z)
    for own, part, result in _blocks(clip, z, out):
        result.copy_(functional.quant_relu(part, own, levels, slope))
    return out


@_quant_relu.register_fake
def _(z: torch.Tensor, clip: torch.Tensor, levels: int, slope: float) -> torch.Tensor:
    return torch.empty_like(z)


def _save(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    z, clip, _, ctx.slope = inputs
    ctx.save_for_backward(z, clip, output)


def _backward(ctx: Any, grad_out: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None, None]:
    """Straight-through gradients, those of the (leaky) ReLU f that it rounds: dq/dz = f'(z) up to the clip, 0
    above; dq/dclip = (q - f(z)) / clip up to it, 1 above."""
    z, clip, out = ctx.saved_tensors
    grad = torch.empty_like(z).copy_(grad_out)  # laid out as z is
    grad_clip = torch.zeros_like(clip)
    for own, gradient, before, after in _blocks(clip, grad, z, out):
        inner, part = _gradients(gradient, before, after, own, ctx.slope)
        gradient.copy_(inner)
        grad_clip += part.view_as(clip)
    return grad, grad_clip, None, None


_quant_relu.register_autograd(_backward, setup_context=_save)


def _gradients(
    grad: torch.Tensor, z: torch.Tensor, out: torch.Tensor, clip: torch.Tensor, slope: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients for z and for the clip, by torch's own kernels, which are several times faster than masks."""
    least = -torch.finfo(z.dtype).tiny  # a ReLU's gradient at 0 is 1
    if clip.dim() == 0:
        top = torch.nextafter(clip, torch.full_like(clip, torch.inf)).item()
        low = -top if slope == 1 else -torch.inf if slope else least
        inside = torch.ops.aten.hardtanh_backward(grad, z, low, top)
        grad_above = torch.ops.aten.threshold_backward(grad, z, clip.item())
    else:
        grad_above = torch.ops.aten.threshold_backward(grad, z - clip, 0)
        inside = grad - grad_above
        inside = inside if slope else torch.ops.aten.threshold_backward(inside, z, least)
    if slope == 1:  # of the identity, limited on both sides
        grad_below = torch.ops.aten.threshold_backward(grad, -clip - z, 0)
        inside = inside if clip.dim() == 0 else inside.sub_(grad_below)
        grad_above = grad_above.sub_(grad_below)
    error = (out - (F.leaky_relu(z, slope) if 0 < slope < 1 else z)).mul_(inside)
    grad_clip = error.sum_to_size(clip.shape) / clip + grad_above.sum_to_size(clip.shape)
    return (
        torch.ops.aten.leaky_relu_backward(inside, z, slope, False) if 0 < slope < 1 else inside
    ), grad_clip


class QuantReLU(nn.Module):
    r"""Quantised ReLU (section 4.3 of the paper) whose clip is learned.

    :math:`q(z) = \lambda \, \mathrm{clip}(\lfloor z L / \lambda + 1/2 \rfloor, 0, L) / L`, with the
    straight-through gradients dq/dz = 1 in :math:`[0, \lambda]` and 0 elsewhere; dq/dlambda = (q - z)/lambda
    inside, 1 above, 0 below. The clip is the softplus of the parameter ``clip_raw`` and so stays positive.
    16-bit input is quantised in float32.

    With a slope it is a quantised leaky ReLU (:func:`sj_lowlat.functional.quant_relu`) from -lambda to
    lambda, for which a signed neuron stands; then dq/dz is the slope below 0.

    :param levels: L, the steps of the spiking network that it stands for
    :param clip: initial clip, a positive number or one per channel ``[C]``
    :param channels: C, for a clip per channel of ``[N, C, *]``; ``None`` for one clip
    :param slope: negative slope in [0, 0.5); 0 for a ReLU; 1 for the identity from -lambda to lambda
    :raises InputError: for levels < 1, a clip that is not positive and finite, or a wrong number of clips
    """

    def __init__(
        self,
        levels: int,
        clip: float | torch.Tensor = 1.0,
        channels: int | None = None,
        slope: float = 0.0,
    ) -> None:
        super().__init__()
        if isinstance(levels, bool) or not isinstance(levels, int) or levels < 1:
            raise InputError(f"levels is {levels!r}, it must be a whole number of at least 1, such as 16")
        if not 0 <= slope < 0.5 and slope != 1:
            raise InputError(
                f"slope is {slope!r}, it must lie in [0, 0.5) (0 for a ReLU), or be 1 (identity)"
            )
        self.levels, self.slope = levels, float(slope)
        shape = () if channels is None else (channels,)
        self.clip_raw = nn.Parameter(torch.empty(shape))
        self.set_clip(clip)

    @property
    def clip(self) -> torch.Tensor:
        """The clip, positive; scalar or ``[C]``."""
        return F.softplus(self.clip_raw) + 1e-30  # softplus alone underflows to 0 far below

    @torch.no_grad()
    def set_clip(self, clip: float | torch.Tensor) -> None:
        """Set the clip.

        :param clip: a positive number, or one per channel
        :raises InputError: if it is not positive and finite, or of another shape than the layer's clip
        """
        value = torch.as_tensor(clip, dtype=torch.float64).detach().cpu()
        if not bool(torch.isfinite(value).all()) or bool((value <= 0).any()):
            raise InputError(
                f"clip must be positive and finite, got {value.tolist()}; "
                "calibrate with images that excite the layer"
            )
        if value.dim() and value.shape != self.clip_raw.shape:
            shape = tuple(self.clip_raw.shape)
            raise InputError(
                f"clip has shape {tuple(value.shape)}, it must be one number or of shape {shape}"
            )
        # inverse softplus log(exp(c) - 1), written so that large clips do not overflow
        self.clip_raw.copy_(value + torch.log(-torch.expm1(-value)))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Quantise ``z``, ``[N, C, *]``."""
        clip = self.clip.to(torch.promote_types(z.dtype, torch.float32))
        if clip.dim():
            clip = clip.view(-1, *[1] * (z.dim() - 2))
        return _quant_relu(z, clip, self.levels, self.slope)

    def extra_repr(self) -> str:
        clip = self.clip.detach()
        text = f"levels={self.levels}, clip={f'{clip.item():.4g}' if not clip.dim() else f'[{len(clip)}]'}"
        return text + (f", slope={self.slope:g}" if self.slope else "")
