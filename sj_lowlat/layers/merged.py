"""Time without a graph: layers that keep time inside a merged batch.

Stateless layers see one batch ``[T * N, *]`` (time-major). Only the layers with a state, which derive from
:class:`MergedTime`, view it as ``[T, N, *]``. So the network's own ``forward`` runs unmodified.
"""

from __future__ import annotations

import torch

from sj_lowlat.errors import InputError
from sj_lowlat.kernels.memory import usual_strides
from sj_lowlat.layers.clock import Clocked


class MergedTime(Clocked):
    """Mixin of layers with a state: in a simulation the clock gives the number of steps in a merged batch."""

    def split_time(self, x: torch.Tensor) -> torch.Tensor:
        """View a merged batch as ``[T, N, *]``.

        :param x: ``[T * N, *]``, or ``[N, *]`` for an input that is the same at every step
        :return: ``[T, N, *]``, a view
        :raises InputError: if the batch is neither
        """
        now = self.clock.now
        steps, batch = now.steps, now.batch
        assert steps is not None
        if x.shape[0] == steps * batch:
            now.sizes.append(x.nbytes // steps)
            return x.view(steps, batch, *x.shape[1:])
        if x.shape[0] == batch:
            return x.unsqueeze(0).expand(steps, *x.shape)
        raise InputError(
            f"{type(self).__name__} got a batch of {x.shape[0]}, it expects {steps} steps x {batch} images "
            f"(or {batch}); the network's forward must leave dimension 0 alone"
        )

    @staticmethod
    def merge_time(x_seq: torch.Tensor) -> torch.Tensor:
        """View ``[T, N, *]`` as a merged batch ``[T * N, *]``, which stays channels_last if its steps are."""
        x = x_seq.flatten(0, 1)
        return x.as_strided(x.shape, usual_strides(x.shape, x.stride()))
