"""Integrate-and-fire neurons with soft reset and a chosen initial potential."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from spikingjelly.activation_based import surrogate

from sj_lowlat import kernels
from sj_lowlat.errors import InputError
from sj_lowlat.kernels import FireRule, LevelTable, SpikeSums
from sj_lowlat.kernels.cupy_training import multi_step_training, trainable
from sj_lowlat.kernels.reference import charge_of
from sj_lowlat.layers.merged import MergedTime
from sj_lowlat.layers.surrogate import fire_with_gradients
from sj_lowlat.layers.thresholds import Thresholds

# whole numbers that spikes of small dtypes can be
_EXACT_UP_TO = {torch.int8: 127, torch.bfloat16: 256, torch.float16: 2048}


def _reset_after_load(module: Any, _incompatible_keys: Any) -> None:
    module.reset()


class LowLatencyIFNode(MergedTime, Thresholds):
    r"""Neuron driven by its :class:`~sj_lowlat.kernels.FireRule`: SpikingJelly's :class:`IFNode` with soft
    reset, Eq. (2) to (5), and the initial potential :math:`V(0) = \mathrm{ratio} \cdot V_{th}`.

    Without gradients it runs a multi-step kernel; where gradients are needed it runs step by step through
    ``surrogate_function``. ``step_mode="s"`` takes ``[N, *]``, ``"m"`` takes ``[T, N, *]``; the state is kept
    from call to call until ``reset()`` (or ``functional.reset_net``). Input of another shape starts at V(0).

    :param v_threshold: threshold, a positive number or one per channel ``[C]`` of ``[N, C, *]``
    :param ratio: V(0) in units of the threshold, a number or one per channel
    :param v_reset: ``None``, the soft reset; here because SpikingJelly's neurons have it
    :param surrogate_function: gradient of the step function
    :param detach_reset: whether the reset is left out of the gradient
    :param step_mode: ``"s"`` or ``"m"``
    :param burst: most spikes in one step; their sum is passed on
    :param store_v_seq: whether ``v_seq`` records the potential of every step, for looking at single neurons
    :param counts: whether it remembers its net count (:class:`SignedIFNode`), in ``count``
    :param max_count: limit of the net count, or ``None``
    :param slope: negative slope of the leaky ReLU that it stands for; 0 for a ReLU
    :param headroom: factor of the limit that a simulation sets to the net count; the spikes of one step stay
        as they are
    :param powers: whether the spikes of one step are a signed power of two
        (:class:`~sj_lowlat.kernels.FireRule`), which one event with its exponent carries; may be set later
    :raises InputError: for a threshold that is not positive, another number of channels than the input has,
        or numbers that :class:`~sj_lowlat.kernels.FireRule` refuses
    """

    def __init__(
        self,
        v_threshold: float | torch.Tensor = 1.0,
        ratio: float | torch.Tensor = 0.5,
        v_reset: None = None,
        surrogate_function: Any = None,
        detach_reset: bool = False,
        step_mode: str = "s",
        store_v_seq: bool = False,
        burst: int = 1,
        *,
        counts: bool = False,
        max_count: int | None = None,
        slope: float = 0.0,
        headroom: int = 1,
        powers: bool = False,
    ) -> None:
        if v_reset is not None:
            raise InputError(f"v_reset is {v_reset!r}, it must be None (soft reset); use IFNode for another")
        super().__init__(
            v_threshold=1.0,
            v_reset=None,
            surrogate_function=surrogate.Sigmoid() if surrogate_function is None else surrogate_function,
            detach_reset=detach_reset,
            step_mode=step_mode,
            store_v_seq=store_v_seq,
        )
        self.v_threshold = v_threshold  # IFNode's constructor takes a float only
        self.set_ratio(ratio)
        self.kernel = "auto"
        self.spike_dtype: torch.dtype | None = None  # that of the currents
        # of a monitor: V -> where the kernel adds its spikes
        self.sums_wanted: Callable[[torch.Tensor], SpikeSums | None] | None = None
        self.burst, self.max_count, self.slope, self.counts = burst, max_count, slope, counts
        self.headroom, self.powers = headroom, powers
        _ = self.rule  # checks them
        if counts:
            self.register_memory("count", 0.0)
        self.steps = 0
        self.register_load_state_dict_post_hook(_reset_after_load)
        self.reset()

    @property
    def rule(self) -> FireRule:
        """When the neuron fires: in a simulation, with its bursts and limits."""
        rule = self._rule(self._most_spikes())
        return replace(rule, powers=True) if self.powers else rule

    def _rule(self, burst: int) -> FireRule:
        if not self.counts:
            return FireRule.imbalanced(self.slope, burst) if self.slope else FireRule.plain(burst)
        charge = self.clock.now.charge
        limit = self.max_count
        if limit is None and charge is not None:  # a quantised ReLU of L levels counts to L
            limit = charge * self.burst * self.headroom
        return FireRule.signed(limit, self.slope, burst)

    def _most_spikes(self) -> int:
        """Most spikes of the present steps.

        :raises InputError: if spikes travel in a dtype that has no such numbers
        """
        burst = self.burst * self.clock.now.burst
        most = _EXACT_UP_TO.get(self._sent_as or torch.float32)
        if most is not None and burst > most:
            raise InputError(
                f"bursts of up to {burst} spikes came to neurons whose spikes travel as {self._sent_as}, "
                f"which takes at most {most}: give a smaller burst (in mode='counts': fewer levels), or a "
                "network in fp32"
            )
        return burst

    @property
    def _sent_as(self) -> torch.dtype | None:
        """The dtype of the present steps' spikes: bytes only where bursts fit."""
        fits = self.burst * self.clock.now.burst <= _EXACT_UP_TO[torch.int8]
        return torch.bfloat16 if self.spike_dtype == torch.int8 and not fits else self.spike_dtype

    def set_reset_value(self, name: str, value: Any) -> None:
        """As SpikingJelly's; V(0) becomes ``value`` by another ``ratio``.

        :param value: of ``"v"``: a number, or one per channel
        """
        if name == "v" and "ratio" in self._buffers:  # and not while IFNode's constructor runs
            self.set_ratio(torch.as_tensor(value) / self.threshold.cpu(), "V(0)")
        super().set_reset_value(name, value)

    def reset(self) -> None:
        """Go back to V(0)."""
        initial = self.v_initial
        super().set_reset_value("v", initial.clone() if initial.dim() else float(initial))
        self.steps = 0
        super().reset()

    def materialize_states(
        self, inputs: tuple[torch.Tensor, ...], states: tuple[object, ...], step_mode: str
    ) -> tuple[object, ...]:
        """Turn reset values into tensors of the input's shape; the membrane is float32 for 16-bit input."""
        x = inputs[0][0] if step_mode == "m" else inputs[0]
        dtype = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
        channels = self.v_initial.numel() if self.v_initial.dim() else None
        if channels is not None and (x.dim() < 2 or x.shape[1] != channels):
            raise InputError(
                f"{type(self).__name__} has a threshold per channel for {channels} channels, "
                f"its input of one step is {tuple(x.shape)}; it must be [N, {channels}, *]"
            )
        v = states[0]
        if isinstance(v, float):
            return self._fresh_states(torch.full_like(x, v, dtype=dtype, requires_grad=False))
        assert isinstance(v, torch.Tensor)
        if v.shape != x.shape:
            self.steps = 0
            v = torch.empty_like(x, dtype=dtype, requires_grad=False)
            v.copy_(self._per_channel(self.v_initial, x))
            return self._fresh_states(v)
        return tuple(s.to(dtype=dtype, device=x.device) if isinstance(s, torch.Tensor) else s for s in states)

    def _fresh_states(self, v: torch.Tensor) -> tuple[object, ...]:
        return (v, torch.zeros_like(v)) if self.counts else (v,)

    def single_step_functional_forward(
        self, inputs: tuple[torch.Tensor, ...], states: tuple[object, ...], **kwargs: object
    ) -> tuple[tuple[torch.Tensor, ...], tuple[object, ...]]:
        """One step with gradients through the surrogate; leaves the module's state alone."""
        x = inputs[0]
        v, count = self._v_and_count(states)
        threshold = self._per_channel(self.threshold, x).to(v.dtype)
        v = v + x
        spike = fire_with_gradients(v, count, threshold, self.rule, self.surrogate_function)
        fired = spike.detach() if self.detach_reset else spike
        carried = charge_of(fired, v, count, threshold, self.rule)
        counted = () if count is None else (count + spike.detach(),)
        return (spike.to(self._sent_as or x.dtype),), (v - carried, *counted)

    @staticmethod
    def _v_and_count(states: tuple[object, ...]) -> tuple[torch.Tensor, torch.Tensor | None]:
        v, count = states[0], states[1] if len(states) > 1 else None
        assert isinstance(v, torch.Tensor) and (count is None or isinstance(count, torch.Tensor))
        return v, count

    def multi_step_functional_forward(
        self, inputs: tuple[torch.Tensor, ...], states: tuple[object, ...], **kwargs: object
    ) -> tuple[tuple[torch.Tensor, ...], tuple[object, ...]]:
        """All steps: by the kernel, or with gradients step by step."""
        x = inputs[0]
        tensors = [x, *(state for state in states if isinstance(state, torch.Tensor))]
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            fused = None if self.store_v_seq else self._run_training_kernel(x, states)
            if fused is not None:
                return fused
            spikes = []
            for current in x:
                (spike,), states = self.single_step_functional_forward((current,), states)
                spikes.append(spike)
            return (torch.stack(spikes),), states
        # the contract of the functional form: the states given are not changed
        return self._run_kernel(x, tuple(s.clone() if isinstance(s, torch.Tensor) else s for s in states))

    def _run_training_kernel(
        self, x: torch.Tensor, states: tuple[object, ...]
    ) -> tuple[tuple[torch.Tensor, ...], tuple[object, ...]] | None:
        """All steps in one kernel with gradients; None where there is none for this neuron."""
        if (kernels.choose(x.device) if self.kernel == "auto" else self.kernel) != "cupy":
            return None
        v, count = self._v_and_count(states)
        threshold = self._per_channel(self.threshold, v).to(v.dtype)
        neuron = x, v, threshold, self.rule, count, self.surrogate_function
        if self._sent_as not in (None, x.dtype) or not trainable(*neuron):
            return None
        spikes, *states_after = multi_step_training(*neuron, self.detach_reset)
        return (spikes,), tuple(state for state in states_after if state is not None)

    @torch.no_grad()
    def _run_kernel(
        self, x: torch.Tensor, states: tuple[object, ...]
    ) -> tuple[tuple[torch.Tensor, ...], tuple[object, ...]]:
        v, count = self._v_and_count(states)
        threshold = self._per_channel(self.threshold, v).to(v.dtype)
        sums = None if self.sums_wanted is None else self.sums_wanted(v)
        spikes = kernels.multi_step(
            x, v, threshold, self.rule, count, self.kernel, self._sent_as, sums, self._table(v)
        )
        return (spikes,), states

    def _table(self, v: torch.Tensor) -> LevelTable | None:
        """Levels of the potentials, for a rule that needs them."""
        return None

    def multi_step_forward(self, x_seq: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Run ``[T, N, *]``."""
        tensors = [x_seq, *(state for state in self.memories() if isinstance(state, torch.Tensor))]
        needs_grad = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
        if needs_grad or self.store_v_seq:
            return super().multi_step_forward(x_seq, *args, **kwargs)
        states = self.materialize_states((x_seq,), tuple(self._memories.values()), "m")
        if self.clock.now.steps is None:
            # kernels work in place, and a monitor or a graph may hold the old states
            states = tuple(s.clone() if isinstance(s, torch.Tensor) else s for s in states)
        (spikes,), states = self._run_kernel(x_seq, states)
        self._memories.update(zip(self._memories, states, strict=True))
        return spikes

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Spikes of the shape of ``x`` (in a simulation of T merged steps: ``[T * N, *]``)."""
        now = self.clock.now
        if now.steps is not None:
            spikes = self.merge_time(self.multi_step_forward(self.split_time(x)))
            self.steps += now.steps
            now.sizes.append(self.v.numel() * (self._sent_as or self.v.dtype).itemsize)
            return spikes
        spikes = super().forward(x, *args, **kwargs)
        self.steps += 1 if self.step_mode == "s" else x.shape[0]
        return spikes

    def extra_repr(self) -> str:
        def short(value: torch.Tensor) -> str:
            return f"{value.item():.4g}" if not value.dim() else f"[{len(value)}]"

        return f"v_threshold={short(self.threshold)}, ratio={short(self.ratio)}, step_mode={self.step_mode}"


def is_spiking(model: torch.nn.Module) -> bool:
    """Whether a network has spiking neurons of this package: ``convert`` made it."""
    return any(isinstance(module, LowLatencyIFNode) for module in model.modules())
