"""The neuron's step in C++: one text for CUDA and for the CPU, configured by macros."""

from __future__ import annotations

from dataclasses import dataclass

import torch

#: dtype of currents -> their type in C++; 16-bit floats are bits, which needs no CUDA header
CURRENTS = {
    torch.float32: "float",
    torch.float64: "double",
    torch.float16: "Float16",
    torch.bfloat16: "BFloat16",
}
SPIKES = {**CURRENTS, torch.int8: "signed char"}


@dataclass(frozen=True)
class Variant:
    """What is fixed when the source is compiled.

    :param target: that of the :class:`~sj_lowlat.kernels.FireRule`, a key of ``LEVELS``
    :param counts: whether neurons remember their count
    :param training: keep V of every step and add the backward kernel; only for ``"linear"``, single spikes
    :param spikes: dtype of the spikes; ``None``: that of the currents
    :param rounds: that of the table, for ``"table"``
    :param hard_reset: whether a spike sets V to 0
    :param powers: whether spikes are powers of two
    """

    currents: torch.dtype
    target: str = "linear"
    counts: bool = False
    training: bool = False
    spikes: torch.dtype | None = None
    rounds: int = 0
    hard_reset: bool = False
    powers: bool = False

    @property
    def membrane(self) -> torch.dtype:
        """Dtype of V, thresholds and counts."""
        return torch.float64 if self.currents == torch.float64 else torch.float32

    def source(self, operations: str, *functions: str) -> str:
        """The whole source, with functions that are called from outside.

        :param operations: of the machine: ``INLINE``, arithmetic on reals, CUDA's bit casts and, for float16,
            ``float_of_half`` and ``half_of_float``; ``reaches``, which compares to the last bit
        """
        double = self.membrane == torch.float64
        spikes = self.spikes or self.currents
        macros = {
            "REAL": "double" if double else "float",
            "REAL_IS_FLOAT": int(not double),
            "CURRENT": CURRENTS[self.currents],
            "SPIKE": SPIKES[spikes],
            "USES_FLOAT16": int(torch.float16 in (self.currents, spikes)),
            "SLOPED": int(self.target in ("leaky", "imbalanced")),
            "RESETS": int(self.target != "table"),
            "ROUNDS": self.rounds,
            "HARD_RESET": int(self.hard_reset),
            "POWERS": int(self.powers),
            "COUNTS": int(self.counts),
            "TRAINING": int(self.training),
        }
        step = _CHARGE + LEVELS[self.target] + _FIRE
        defined = (f"#define {name} {value}" for name, value in macros.items())
        return "\n".join([*defined, _TYPE_NAMES, operations, _CONVERSIONS, step, *functions])


_TYPE_NAMES = r"""
struct Float16 { unsigned short bits; };
struct BFloat16 { unsigned short bits; };
typedef REAL real;
typedef CURRENT current_t;
typedef SPIKE spike_t;
typedef long long index_t;
"""

_CONVERSIONS = r"""
// a NaN in a stays, as in torch.maximum
INLINE real raise_to(real a, real least) { return a < least ? least : a; }
INLINE real cut_at(real a, real most) { return a > most ? most : a; }

// of a whole number: sign and exponent without the mantissa; 0 and NaN stay
INLINE real power_of_two(real a) {
#if REAL_IS_FLOAT
    const real power = __uint_as_float(__float_as_uint(a) & 0xff800000u);
#else
    const real power = __longlong_as_double(__double_as_longlong(a) & ~((1ll << 52) - 1));
#endif
    return a == a ? power : a;
}

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
"""

_CHARGE = r"""
struct Limits { real lowest, highest, down, up; };  // of the FireRule

// The LevelTable of a layer; null where the target is another. A neuron's part of it starts with cell `row`.
struct Table { const real* steps; const int* first; int cells, left, shift; };

// Binary search among the borders of a cell, which takes `needed` rounds; those before read what is at hand.
// No loop and no condition, so that the compiler can work on many neurons at once.
template <int ROUND> INLINE int search(real u, const real* steps, int i, int needed) {
    const int part = 1 << (ROUND - 1), mask = ~(needed - ROUND >> 31);  // all bits, or none in a round before
    const bool beyond = reaches(u, steps[2 * (i + (part - 1 & mask))]);
    return search<ROUND - 1>(u, steps, i + (beyond ? part & mask : 0), needed);
}
template <> INLINE int search<0>(real, const real*, int i, int) { return i; }

// For which a net count stands; low: threshold / slope.
INLINE real charge(real n, real threshold, real low) { return times(n, SLOPED && n < 0 ? low : threshold); }

// The level of the whole charge. With a table: threshold is its centre, low its spread.
INLINE real level(real potential, real n, real threshold, real low, Table table, int row) {
"""

#: target -> body of ``level``, as in ``kernels/reference.py``. Where a GPU compares potentials, subnormal
#: numbers count as 0: that must not matter.
LEVELS = {
    "linear": "return plus(n, whole(over(potential, threshold)));",
    "leaky": """
    const real u = plus(potential, charge(n, threshold, low));
    return whole(raise_to(over(u, threshold), plus(over(u, low), (real)0.5)));""",
    "imbalanced": """
    const real reached = raise_to(over(potential, threshold), over(potential, low));
    return minus(raise_to(whole(reached), 0), raise_to(whole(minus(0, reached)), 0));  // towards 0""",
    "table": """
    const real away = minus(potential, threshold);
    const float far = (float)plus(raise_to(away, minus(0, away)), low);
    const int size = (int)(__float_as_uint(far) - __float_as_uint((float)low) >> table.shift);
    const int cell = away < 0 ? table.left - 1 - size : table.left + size;
    const int from = table.first[row + (cell < 0 ? 0 : cell < table.cells ? cell : table.cells - 1)];
    const real found = table.steps[2 * search<ROUNDS>(potential, table.steps, from >> 5, from & 31) + 1];
    return potential == potential ? found : potential;""",
}

_FIRE = r"""
}

// Fire at a potential that has the step's current; n: the net count, 0 in every step without COUNTS.
INLINE real fire(
    real& potential, real& n, real threshold, real low, Limits rule, Table table, int row)
{
    const real aim = level(potential, n, threshold, low, table, row);
    const real target = cut_at(raise_to(aim, rule.lowest), rule.highest);
    const real wanted = cut_at(raise_to(minus(target, n), -rule.down), rule.up);
    const real spike = POWERS ? power_of_two(wanted) : wanted;
    const real after = plus(n, spike);
#if SLOPED
    potential = minus(potential, minus(charge(after, threshold, low), charge(n, threshold, low)));
#elif HARD_RESET
    potential = spike > 0 ? (real)0 : potential;
#elif RESETS
    potential = minus(potential, times(spike, threshold));
#endif
    if (COUNTS) n = after;
    return spike;
}
"""
