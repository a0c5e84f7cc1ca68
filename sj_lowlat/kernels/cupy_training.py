"""The CUDA neurons with gradients: all steps in one kernel, forwards and backwards."""

from __future__ import annotations

from typing import Any

import torch
from spikingjelly.activation_based import surrogate
from torch import Tensor
from torch.autograd.function import once_differentiable

from sj_lowlat.errors import InputError
from sj_lowlat.kernels import cupy_kernel
from sj_lowlat.kernels.fused import limits, run_neurons, variant_for
from sj_lowlat.kernels.memory import StepMemory
from sj_lowlat.kernels.rule import FireRule

#: surrogates that the backward kernel knows -> whether it takes the arc tangent's
_SURROGATES = {surrogate.Sigmoid: False, surrogate.ATan: True}


def trainable(
    currents: Tensor,
    v: Tensor,
    v_threshold: Tensor,
    rule: FireRule,
    count: Tensor | None,
    surrogate_function: torch.nn.Module,
) -> bool:
    """Whether :func:`multi_step_training` can run these neurons: the target ``"linear"``, one spike a step,
    soft reset, SpikingJelly's ``Sigmoid`` or ``ATan``, no gradient of thresholds."""
    variant = variant_for(currents, v, v_threshold, rule, count, training=True)
    known = type(surrogate_function) in _SURROGATES and bool(surrogate_function.spiking)
    return variant is not None and known and not v_threshold.requires_grad


def multi_step_training(
    currents: Tensor,
    v: Tensor,
    v_threshold: Tensor,
    rule: FireRule,
    count: Tensor | None,
    surrogate_function: torch.nn.Module,
    detach_reset: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run ``T`` steps of a layer of neurons on a GPU with gradients of currents and V.

    Takes the tensors of :func:`sj_lowlat.kernels.multi_step`, but leaves V and counts as they are. Of every
    step it keeps V for the backward pass.

    :param surrogate_function: gradient of the step function
    :param detach_reset: whether the reset is left out of the gradient
    :return: spikes ``[T, N, *]``, V and counts after the last step (counts carry no gradient)
    :raises InputError: where :func:`trainable` says no, without a GPU or without CuPy
    """
    count = count if rule.counts else None
    if not trainable(currents, v, v_threshold, rule, count, surrogate_function):
        raise InputError(
            f"no kernel has gradients for {rule}, {type(surrogate_function).__name__} and currents of "
            f"{currents.dtype} on V of {v.dtype}; run such neurons step by step (step_mode='s')"
        )
    settings = rule, surrogate_function, detach_reset
    spikes, v, *counts = _MultiStep.apply(currents, v, v_threshold, count, settings)
    return spikes, v, counts[0] if counts else None


class _MultiStep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        currents: Tensor,
        v: Tensor,
        v_threshold: Tensor,
        count: Tensor | None,
        settings: tuple[FireRule, torch.nn.Module, bool],
    ) -> tuple[Tensor, ...]:
        rule, _, _ = ctx.settings = settings
        variant = variant_for(currents, v, v_threshold, rule, count, training=True)
        assert variant is not None  # the caller checked it
        memory = StepMemory.of(currents, v)
        state = [memory.empty(tensor).copy_(tensor) for tensor in (v, count) if tensor is not None]
        potentials = memory.empty(v, steps=len(currents))
        written = [*state, *(None,) * (5 - len(state))]
        spikes = run_neurons(
            cupy_kernel.launch, variant, memory, currents, v_threshold, rule, written, potentials
        )
        ctx.variant, ctx.memory = variant, memory
        ctx.set_materialize_grads(False)
        # signed: the counts of each step follow from the last ones and the spikes
        ctx.save_for_backward(potentials, v_threshold, *([spikes, *state[1:]] if count is not None else []))
        ctx.mark_non_differentiable(*state[1:])
        return spikes, *state

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_spikes: Tensor | None, grad_v: Tensor | None, *_: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        if grad_spikes is None and grad_v is None:
            return (None,) * 5
        (rule, surrogate_function, detach_reset), memory = ctx.settings, ctx.memory
        potentials, v_threshold, *signed = ctx.saved_tensors
        spikes, count = signed or (None, None)
        steps, arctan = len(potentials), _SURROGATES[type(surrogate_function)]
        if grad_spikes is not None:
            grad_spikes = memory.laid_out_steps(grad_spikes)
        if grad_v is not None:
            grad_v = memory.laid_out(grad_v)
        grad_currents = memory.empty(potentials, ctx.variant.currents, steps)
        grad_v0 = memory.empty(potentials)
        arguments = (
            *(steps, memory.size, grad_spikes, 0 if grad_spikes is None else grad_spikes.stride(0), grad_v),
            *(potentials, spikes, count, *memory.per_channel(v_threshold), *limits(rule)),
            *(float(surrogate_function.alpha), int(arctan), int(detach_reset), grad_currents, grad_v0),
        )
        cupy_kernel.launch("neurons_backward", ctx.variant, memory.size, arguments, potentials.device)
        return grad_currents, grad_v0, None, None, None
