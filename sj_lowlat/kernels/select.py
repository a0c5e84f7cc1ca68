"""The one entry to all kernels."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import Tensor

from sj_lowlat.errors import InputError
from sj_lowlat.kernels import cpp_kernel, cupy_kernel
from sj_lowlat.kernels.fused import multi_step_fused
from sj_lowlat.kernels.memory import SpikeSums
from sj_lowlat.kernels.reference import multi_step_reference
from sj_lowlat.kernels.rule import FireRule
from sj_lowlat.kernels.table import LevelTable
from sj_lowlat.kernels.watched import watched

#: environment variable with the kernel that ``"auto"`` takes
VARIABLE = "SJ_LOWLAT_KERNEL"

#: name -> kernel, which takes the arguments of :func:`multi_step` but ``kernel`` and gives the spikes of
#: ``"reference"`` bit by bit; add one of your own here, and name it in a neuron's ``kernel``
KERNELS: dict[str, Callable[..., Tensor]] = {
    "reference": multi_step_reference,
    "cpp": lambda *args, **more: multi_step_fused(cpp_kernel.launch, *args, **more),
    "cupy": lambda *args, **more: multi_step_fused(cupy_kernel.launch, *args, **more),
}


def choose(device: torch.device) -> str:
    """Name of the kernel that ``"auto"`` stands for on a device; ``"reference"`` where :func:`watched`.

    The environment variable ``SJ_LOWLAT_KERNEL`` decides, if it is set to a name. Otherwise, on a GPU:
    ``"cupy"`` if CuPy works there; on a CPU: ``"cpp"`` if there is a C++ compiler; and else ``"reference"``.

    :param device: where the currents are
    :raises InputError: if the variable names no kernel
    """
    if watched():
        return "reference"
    name = os.environ.get(VARIABLE) or "auto"
    if name != "auto":
        return _known(name, f"{VARIABLE} is {name!r}, a kernel that does not exist")
    if device.type == "cpu":
        return "cpp" if cpp_kernel.available() else "reference"
    return "cupy" if device.type == "cuda" and cupy_kernel.available() else "reference"


def _known(name: str, problem: str) -> str:
    if name not in KERNELS:
        raise InputError(f"{problem}; known: {', '.join(['auto', *KERNELS])}")
    return name


def multi_step(
    currents: Tensor,
    v: Tensor,
    v_threshold: Tensor,
    rule: FireRule,
    count: Tensor | None = None,
    kernel: str = "reference",
    spike_dtype: torch.dtype | None = None,
    sums: SpikeSums | None = None,
    table: LevelTable | None = None,
) -> Tensor:
    """Run ``T`` steps of a layer of integrate-and-fire neurons without gradients.

    :param currents: input ``[T, N, *]``; may be expanded over T (stride 0) for a constant current
    :param v: membrane potentials ``[N, *]``, updated in place; float32 where currents are float16 or bfloat16
    :param v_threshold: thresholds, broadcastable to ``[N, *]``
    :param rule: when the neurons fire
    :param count: net spike counts ``[N, *]``, updated in place; a rule with ``counts`` needs them
    :param kernel: name of the implementation, a key of ``KERNELS``; ``"auto"`` for that of :func:`choose`
    :param spike_dtype: dtype of the spikes; ``None``: that of ``currents``
    :param sums: if given, the spikes are added to it
    :param table: levels of the rule :meth:`FireRule.table`, in the dtype and on the device of ``v``
    :return: spikes ``[T, N, *]``
    :raises InputError: if shapes or devices differ, counts are missing or the kernel is unknown or cannot run
    """
    chosen = kernel == "auto" or watched()
    name = choose(currents.device) if chosen else _known(kernel, f"there is no kernel {kernel!r}")
    if currents.shape[1:] != v.shape:
        raise InputError(f"currents have shape {tuple(currents.shape)}, it must be (T, *{tuple(v.shape)})")
    if rule.counts and (count is None or count.shape != v.shape):
        raise InputError("a signed neuron needs count, a tensor of the shape of v")
    if (table is None) != rule.resets:
        raise InputError(f"the rule has the target {rule.target!r}: a table is for 'table', which needs one")
    if table is not None:
        table.check(v)
    count = count if rule.counts else None
    arguments = (currents, v, v_threshold, rule, count, spike_dtype, sums, table)
    try:
        return KERNELS[name](*arguments)
    except cpp_kernel.NoKernel:
        if not chosen:
            raise
        return multi_step_reference(*arguments)
