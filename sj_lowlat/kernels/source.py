"""The neuron's step in C++: one text for CUDA and for the CPU, configured by macros."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sj_lowlat.kernels.rule import KINDS, FireRule

#: dtype of currents -> their type in C++; 16-bit floats are bits, which needs no CUDA header
_CURRENTS = {
    torch.float32: "float",
    torch.float64: "double",
    torch.float16: "Float16",
    torch.bfloat16: "BFloat16",
}
_SPIKES = {**_CURRENTS, torch.int8: "signed char"}


@dataclass(frozen=True)
class Variant:
    """What is fixed when the source is compiled.

    :param currents: dtype of the currents
    :param kind: kind of the :class:`~sj_lowlat.kernels.FireRule`; ``"leaky"`` for ``"signed"`` with a slope
    :param bursts: whether a neuron may fire several spikes in a step
    :param training: whether V of every step is kept and there is a backward kernel; for single spikes of
        the kinds ``"if"`` and ``"signed"``
    :param spikes: dtype of the spikes; that of the currents if ``None``
    """

    currents: torch.dtype
    kind: str
    bursts: bool = False
    training: bool = False
    spikes: torch.dtype | None = None

    @classmethod
    def of(
        cls,
        currents: torch.dtype,
        rule: FireRule,
        training: bool = False,
        spikes: torch.dtype | None = None,
    ) -> Variant | None:
        """The variant for a rule; ``None`` if there is no kernel for these dtypes."""
        spikes = spikes or currents
        if currents not in _CURRENTS or spikes not in _SPIKES:
            return None
        kind = "leaky" if rule.kind == "signed" and rule.slope else rule.kind
        bursts = rule.burst > 1 and kind != "leaky"
        return cls(currents, kind, bursts, training, None if spikes == currents else spikes)

    @property
    def membrane(self) -> torch.dtype:
        """Dtype of V, thresholds and counts."""
        return torch.float64 if self.currents == torch.float64 else torch.float32

    def source(self) -> str:
        """Macros, arithmetic and the step, for a text that defines ``INLINE`` and the operations."""
        double = self.membrane == torch.float64
        spikes = self.spikes or self.currents
        macros = {
            "REAL": "double" if double else "float",
            "REAL_IS_FLOAT": int(not double),
            "CURRENT": _CURRENTS[self.currents],
            "SPIKE": _SPIKES[spikes],
            "USES_FLOAT16": int(torch.float16 in (self.currents, spikes)),
            **{f"RULE_{kind.upper()}": int(kind == self.kind) for kind in (*KINDS, "leaky")},
            "BURSTS": int(self.bursts),
            "TRAINING": int(self.training),
        }
        return "\n".join([*(f"#define {name} {value}" for name, value in macros.items()), _TYPE_NAMES])


_TYPE_NAMES = r"""
struct Float16 { unsigned short bits; };
struct BFloat16 { unsigned short bits; };
typedef REAL real;
typedef CURRENT current_t;
typedef SPIKE spike_t;
typedef long long index_t;
"""

#: needs ``INLINE``, the operations on reals, ``float_of_half``/``half_of_float`` and CUDA's bit casts
STEP = r"""
// a NaN in a stays, as in torch.maximum
INLINE real raise_to(real a, real least) { return a < least ? least : a; }
INLINE real cut_at(real a, real most) { return a > most ? most : a; }

INLINE real widen(float a) { return a; }
INLINE real widen(double a) { return (real)a; }
INLINE real widen(signed char a) { return a; }
INLINE real widen(BFloat16 a) { return __uint_as_float((unsigned int)a.bits << 16); }
template <class To> INLINE To narrow(real a) { return (To)a; }
template <> INLINE BFloat16 narrow<BFloat16>(real a) {
    const unsigned int bits = __float_as_uint((float)a);
    BFloat16 result;
    result.bits = (bits & 0x7fffffffu) > 0x7f800000u
        ? 0x7fc0  // NaN
        : (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);  // to the nearest, ties to even
    return result;
}
#if USES_FLOAT16
INLINE real widen(Float16 a) { return float_of_half(a.bits); }
template <> INLINE Float16 narrow<Float16>(real a) {
    Float16 result;
    result.bits = half_of_float((float)a);
    return result;
}
#endif

// Fire at a potential that has the step's current; n is the net count of a signed neuron.
INLINE real fire(real& potential, real& n, real threshold, real low, real most, real burst) {
#if RULE_LEAKY
    potential = plus(potential, times(n, n < 0 ? low : threshold));  // the whole charge
    const real above = over(potential, threshold), under = plus(over(potential, low), (real)0.5);
    const real target = cut_at(raise_to(whole(raise_to(above, under)), -most), most);
    const real spike = cut_at(raise_to(minus(target, n), -burst), burst);
    n = plus(n, spike);
    potential = minus(potential, times(n, n < 0 ? low : threshold));
#elif BURSTS
    real spike = whole(over(potential, threshold));
    spike = cut_at(raise_to(spike, RULE_SIGNED ? -burst : 0), burst);
#if RULE_SIGNED
    spike = cut_at(raise_to(spike, minus(0, n)), minus(most, n));
    n = plus(n, spike);
#endif
    potential = minus(potential, times(spike, threshold));
#elif RULE_IMBALANCED
    const real positive = at_least(potential, threshold);
    const real negative = at_least(minus(0, low), potential);
    const real spike = minus(positive, negative);
    potential = minus(potential, times(positive, threshold));
    potential = plus(potential, times(negative, low));
#else
    real spike = at_least(potential, threshold);
#if RULE_SIGNED
    spike = minus(n < most ? spike : 0, n > 0 ? below(potential, 0) : 0);
    n = plus(n, spike);
#endif
    potential = minus(potential, times(spike, threshold));
#endif
    return spike;
}
"""
