"""The multi-step neuron in CUDA C++: one source, configured by macros, forwards and backwards."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sj_lowlat.kernels.rule import KINDS, FireRule

#: dtype of the currents (and spikes) -> their type in C++; 16-bit floats are bits, which needs no CUDA header
_TYPES = {
    torch.float32: "float",
    torch.float64: "double",
    torch.float16: "unsigned short",
    torch.bfloat16: "unsigned short",
}

#: for the compiler: every operation rounds for itself, as in the reference
OPTIONS = ("--fmad=false",)


@dataclass(frozen=True)
class Variant:
    """What is fixed when the source is compiled.

    :param currents: dtype of the currents and spikes
    :param kind: kind of the :class:`~sj_lowlat.kernels.FireRule`; ``"leaky"`` for ``"signed"`` with a slope
    :param bursts: whether a neuron may fire several spikes in a step
    :param training: whether V of every step is kept and there is a backward kernel; for single spikes of
        the kinds ``"if"`` and ``"signed"``
    """

    currents: torch.dtype
    kind: str
    bursts: bool = False
    training: bool = False

    @classmethod
    def of(cls, currents: torch.dtype, rule: FireRule, training: bool = False) -> Variant:
        """The variant for a rule."""
        kind = "leaky" if rule.kind == "signed" and rule.slope else rule.kind
        return cls(currents, kind, rule.burst > 1 and kind != "leaky", training)

    @staticmethod
    def membrane_of(currents: torch.dtype) -> torch.dtype | None:
        """Dtype of V, thresholds and counts for these currents; ``None`` if there is no kernel for them."""
        if currents not in _TYPES:
            return None
        return torch.float64 if currents == torch.float64 else torch.float32


def cuda_source(variant: Variant) -> str:
    """The kernel ``neurons`` of a variant, for training with ``neurons_backward``.

    ``neurons`` gives the spikes and states of the reference bit by bit. It works on memory, not on axes:
    neuron i of a step has threshold ``i // inner % channels``, so any order of the axes without gaps will do,
    as long as all tensors share it. Pointers may be null where the signature says so.
    """
    double = Variant.membrane_of(variant.currents) == torch.float64
    macros = {
        "REAL": "double" if double else "float",
        "REAL_IS_FLOAT": int(not double),
        "CURRENT": _TYPES[variant.currents],
        "CURRENT_IS_FLOAT16": int(variant.currents == torch.float16),
        "CURRENT_IS_BFLOAT16": int(variant.currents == torch.bfloat16),
        **{f"RULE_{kind.upper()}": int(kind == variant.kind) for kind in (*KINDS, "leaky")},
        "BURSTS": int(variant.bursts),
        "TRAINING": int(variant.training),
    }
    lines = [f"#define {name} {value}" for name, value in macros.items()]
    return "\n".join([*lines, _ARITHMETIC, _FORWARD, *([_BACKWARD] if variant.training else [])])


_ARITHMETIC = r"""
typedef REAL real;
typedef CURRENT current_t;
typedef long long index_t;
#define INLINE static __device__ __forceinline__

// CuPy compiles with -ftz=true, after our own options: float32 numbers below 1.2e-38 would become 0, and
// torch keeps them. In PTX an instruction without .ftz keeps them too.
#if REAL_IS_FLOAT && defined(__CUDACC__)
#define OPERATION(name, symbol, instruction)                              \
    INLINE real name(real a, real b) {                                    \
        real result;                                                      \
        asm(instruction " %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b)); \
        return result;                                                    \
    }
INLINE real whole(real a) {
    real result;
    asm("cvt.rmi.f32.f32 %0, %1;" : "=f"(result) : "f"(a));
    return result;
}
#else
#define OPERATION(name, symbol, instruction) \
    INLINE real name(real a, real b) { return a symbol b; }
INLINE real whole(real a) { return floor(a); }
#endif
OPERATION(plus, +, "add.rn.f32")
OPERATION(minus, -, "sub.rn.f32")
OPERATION(times, *, "mul.rn.f32")
OPERATION(over, /, "div.rn.f32")
OPERATION(at_least, >=, "set.ge.f32.f32")  // 1 or 0
OPERATION(below, <, "set.lt.f32.f32")

// a NaN in a stays, as in torch.maximum
INLINE real raise_to(real a, real least) { return a < least ? least : a; }
INLINE real cut_at(real a, real most) { return a > most ? most : a; }

#if CURRENT_IS_FLOAT16
#ifdef __CUDACC__
INLINE float float_of_half(unsigned short bits) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(bits));
    return result;
}
INLINE unsigned short half_of_float(float a) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(a));
    return bits;
}
#endif
INLINE real widen(current_t bits) { return float_of_half(bits); }
INLINE current_t narrow(real a) { return half_of_float(a); }
#elif CURRENT_IS_BFLOAT16
INLINE real widen(current_t bits) { return __uint_as_float((unsigned int)bits << 16); }
INLINE current_t narrow(real a) {
    const unsigned int bits = __float_as_uint(a);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;  // NaN
    return (current_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);  // to the nearest, ties to even
}
#else
INLINE real widen(current_t a) { return a; }
INLINE current_t narrow(real a) { return a; }
#endif
"""

_FORWARD = r"""
// One thread per neuron: V and the count stay in registers for all T steps.
extern "C" __global__ void neurons(
    index_t steps, index_t size,                                // T; neurons of a step
    const current_t* __restrict__ currents, index_t time_stride,  // [T, size]; 0: the same in every step
    real* __restrict__ v, real* __restrict__ count,             // [size], updated; count or null
    const real* __restrict__ thresholds, const real* __restrict__ lows,  // [channels]; V_th / slope, or null
    index_t channels, index_t inner,
    double max_count, double burst,
    current_t* __restrict__ spikes,                             // [T, size]
    real* __restrict__ potentials,                              // [T, size] V before firing; in training
    int* __restrict__ active, int* __restrict__ net, int* __restrict__ absolute)  // [size] sums, or null
{
    const index_t threads = (index_t)gridDim.x * blockDim.x;
    for (index_t i = (index_t)blockIdx.x * blockDim.x + threadIdx.x; i < size; i += threads) {
        const index_t channel = channels == 1 ? 0 : i / inner % channels;
        const real threshold = thresholds[channel];
#if RULE_IMBALANCED || RULE_LEAKY
        const real low = lows[channel];
#endif
#if RULE_SIGNED || RULE_LEAKY
        const real most = (real)max_count;
        real n = count[i];
#endif
        real potential = v[i];
        int times_active = 0, sum = 0, sum_absolute = 0;
#pragma unroll 4
        for (index_t t = 0; t < steps; ++t) {
            potential = plus(potential, widen(currents[t * time_stride + i]));
#if TRAINING
            potentials[t * size + i] = potential;
#endif
#if RULE_LEAKY
            potential = plus(potential, times(n, n < 0 ? low : threshold));  // the whole charge
            const real above = over(potential, threshold), under = plus(over(potential, low), (real)0.5);
            const real target = cut_at(raise_to(whole(raise_to(above, under)), -most), most);
            const real spike = cut_at(raise_to(minus(target, n), -(real)burst), (real)burst);
            n = plus(n, spike);
            potential = minus(potential, times(n, n < 0 ? low : threshold));
#elif BURSTS
            real spike = whole(over(potential, threshold));
            spike = cut_at(raise_to(spike, RULE_SIGNED ? -(real)burst : 0), (real)burst);
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
            spikes[t * size + i] = narrow(spike);
            const int whole_spike = (int)spike;
            times_active += whole_spike != 0;
            sum += whole_spike;
            sum_absolute += whole_spike < 0 ? -whole_spike : whole_spike;
        }
        v[i] = potential;
#if RULE_SIGNED || RULE_LEAKY
        count[i] = n;
#endif
        if (active) {
            active[i] += times_active;
            net[i] += sum;
            absolute[i] += sum_absolute;
        }
    }
}
"""

_BACKWARD = r"""
// SpikingJelly's Sigmoid and ATan
INLINE real slope_at(real x, real alpha, bool arctan) {
    if (arctan) {
        const real y = (real)(3.14159265358979323846 / 2) * alpha * x;
        return alpha / 2 / (1 + y * y);
    }
    const real y = 1 / (1 + exp(-alpha * x));
    return (1 - y) * y * alpha;
}

extern "C" __global__ void neurons_backward(
    index_t steps, index_t size,
    const current_t* __restrict__ grad_spikes, index_t grad_stride,        // [T, size] or null; over time
    const real* __restrict__ grad_v,                                       // [size] or null
    const real* __restrict__ potentials,                                   // [T, size]
    const current_t* __restrict__ spikes, const real* __restrict__ count,  // [T, size], N(T) [size]; or null
    const real* __restrict__ thresholds, index_t channels, index_t inner,
    double max_count, double alpha, index_t arctan, index_t detach_reset,
    current_t* __restrict__ grad_currents, real* __restrict__ grad_v0)     // [T, size], [size]
{
    const index_t threads = (index_t)gridDim.x * blockDim.x;
    for (index_t i = (index_t)blockIdx.x * blockDim.x + threadIdx.x; i < size; i += threads) {
        const real threshold = thresholds[channels == 1 ? 0 : i / inner % channels];
        real grad = grad_v ? grad_v[i] : 0;
#if RULE_SIGNED
        real n = count[i];
#endif
#pragma unroll 4
        for (index_t t = steps - 1; t >= 0; --t) {
            const real potential = potentials[t * size + i];
            real grad_spike = grad_spikes ? widen(grad_spikes[t * grad_stride + i]) : 0;
            if (!detach_reset) grad_spike -= grad * threshold;
            real slope = slope_at(potential - threshold, (real)alpha, arctan != 0);
#if RULE_SIGNED
            n -= widen(spikes[t * size + i]);  // the count before this step
            if (!(n < (real)max_count)) slope = 0;
            if (n > 0) slope += slope_at(potential, (real)alpha, arctan != 0);
#endif
            grad += grad_spike * slope;
            grad_currents[t * size + i] = narrow(grad);
        }
        grad_v0[i] = grad;
    }
}
"""
