"""Quantised ReLU with a learned clip."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from sj_lowlat import functional
from sj_lowlat.errors import InputError


class _QuantReLUFunction(torch.autograd.Function):
    """Quantised ReLU with straight-through gradients.

    dq/dz = 1 where 0 <= z <= clip, else 0; dq/dclip = (q - z) / clip inside, 1 above, 0 below.
    """

    @staticmethod
    def forward(ctx: Any, z: torch.Tensor, clip: torch.Tensor, levels: int) -> torch.Tensor:
        out = functional.quant_relu(z, clip, levels)
        ctx.save_for_backward(z, clip, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        z, clip, out = ctx.saved_tensors
        grad = grads[0]
        if clip.dim() == 0:  # torch's own kernels for one clip, several times faster than masks
            top = torch.nextafter(clip, torch.full_like(clip, torch.inf)).item()
            inner = torch.ops.aten.hardtanh_backward(grad, z, -torch.finfo(z.dtype).tiny, top)
            grad_above = torch.ops.aten.threshold_backward(grad, z, clip.item())
        else:
            over = z > clip
            inner, grad_above = grad * ((z >= 0) & ~over), grad * over
        grad_clip = None
        if ctx.needs_input_grad[1]:
            inside = (out - z).mul_(inner)
            grad_clip = inside.sum_to_size(clip.shape) / clip + grad_above.sum_to_size(clip.shape)
        return inner, grad_clip, None


class QuantReLU(nn.Module):
    r"""Quantised ReLU (section 4.3 of the paper) whose clip is learned.

    :math:`q(z) = \lambda \, \mathrm{clip}(\lfloor z L / \lambda + 1/2 \rfloor, 0, L) / L`, with the
    straight-through gradients dq/dz = 1 in :math:`[0, \lambda]` and 0 elsewhere; dq/dlambda = (q - z)/lambda
    inside, 1 above, 0 below. The clip is the softplus of the parameter ``clip_raw`` and so stays positive.
    16-bit input is quantised in float32.

    :param levels: L, the steps of the spiking network that it stands for
    :param clip: initial clip, a positive number or one per channel ``[C]``
    :param channels: C, for a clip per channel of ``[N, C, *]``; ``None`` for one clip
    :raises InputError: for levels < 1, a clip that is not positive and finite, or a wrong number of clips
    """

    def __init__(self, levels: int, clip: float | torch.Tensor = 1.0, channels: int | None = None) -> None:
        super().__init__()
        if isinstance(levels, bool) or not isinstance(levels, int) or levels < 1:
            raise InputError(f"levels is {levels!r}, it must be a whole number of at least 1, such as 16")
        self.levels = levels
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
        return _QuantReLUFunction.apply(z, clip, self.levels)

    def extra_repr(self) -> str:
        clip = self.clip.detach()
        return f"levels={self.levels}, clip={f'{clip.item():.4g}' if not clip.dim() else f'[{len(clip)}]'}"
