"""Whether something other than Python follows torch's operations."""

from __future__ import annotations

import torch


def watched() -> bool:
    """Whether something follows torch's operations: ``jit.trace``, ``torch.export``, ``make_fx``,
    ``torch.compile``, a transform such as ``vmap``, or a counter of operations. None of them sees what a
    kernel does with raw memory, so then the reference runs.
    """
    return (
        torch.jit.is_tracing()
        or torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
    )
