"""The multi-step neuron in CUDA C++, forwards and backwards."""

from __future__ import annotations

from sj_lowlat.kernels.source import Variant

#: for the compiler: every operation rounds for itself, as in the reference
OPTIONS = ("--fmad=false",)


def cuda_source(variant: Variant) -> str:
    """The kernel ``neurons`` of a variant, for training also ``neurons_backward``.

    ``neurons`` gives the spikes and states of the reference bit by bit. It works on memory, not on axes:
    neuron i of a step has threshold ``i // inner % channels``, so all tensors may share any order of axes.
    """
    return variant.source(_OPERATIONS, _FORWARD, *[_BACKWARD] * variant.training)


_OPERATIONS = r"""
#define INLINE __device__ __forceinline__

// CuPy compiles with -ftz=true, after our own options: float32 numbers below 1.2e-38 would become 0, and
// torch keeps them. In PTX an instruction without .ftz keeps them too.
#if REAL_IS_FLOAT && defined(__CUDACC__)
#define OPERATION(name, symbol, instruction)                              \
    INLINE real name(real a, real b) {                                    \
        real result;                                                      \
        asm(instruction " %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b)); \
        return result;                                                    \
    }
INLINE bool reaches(real a, real b) {
    int result;
    asm("{.reg .pred p; setp.ge.f32 p, %1, %2; selp.s32 %0, 1, 0, p;}" : "=r"(result) : "f"(a), "f"(b));
    return result;
}
INLINE real whole(real a) {
    real result;
    asm("cvt.rmi.f32.f32 %0, %1;" : "=f"(result) : "f"(a));
    return result;
}
#else
#define OPERATION(name, symbol, instruction) \
    INLINE real name(real a, real b) { return a symbol b; }
INLINE bool reaches(real a, real b) { return a >= b; }
INLINE real whole(real a) { return floor(a); }
#endif
OPERATION(plus, +, "add.rn.f32")
OPERATION(minus, -, "sub.rn.f32")
OPERATION(times, *, "mul.rn.f32")
OPERATION(over, /, "div.rn.f32")
#if USES_FLOAT16 && defined(__CUDACC__)
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
"""

_FORWARD = r"""
// One thread per neuron: V and the count stay in registers for all T steps.
extern "C" __global__ void neurons(
    index_t steps, index_t size,                                // T; neurons of a step
    const current_t* __restrict__ currents, index_t time_stride,  // [T, size]; 0: the same in every step
    real* __restrict__ v, real* __restrict__ count,             // [size], updated; count or null
    const real* __restrict__ thresholds, const real* __restrict__ lows,  // [channels]; V_th / slope, or null
    index_t channels, index_t inner,
    double lowest, double highest, double down, double up,
    spike_t* __restrict__ spikes,                               // [T, size]
    real* __restrict__ potentials,                              // [T, size] V before firing; in training
    int* __restrict__ active, unsigned long long* net, unsigned long long* absolute,  // or null; [size],
    index_t sum_channels, index_t sum_inner,                                          // and [sum_channels]
    // of the LevelTable, or null; with one, thresholds and lows are its centre and spread
    const real* __restrict__ steps_of_table, const int* __restrict__ firsts,
    index_t cells, index_t left, index_t shift)
{
    const Table table = {steps_of_table, firsts, (int)cells, (int)left, (int)shift};
    const Limits rule = {(real)lowest, (real)highest, (real)down, (real)up};
    const index_t threads = (index_t)gridDim.x * blockDim.x;
    for (index_t i = (index_t)blockIdx.x * blockDim.x + threadIdx.x; i < size; i += threads) {
        const index_t channel = channels == 1 ? 0 : i / inner % channels;
        const real threshold = thresholds[channel];
        const real low = lows ? lows[channel] : 0;
        real n = COUNTS ? count[i] : 0;
        real potential = v[i];
        int times_active = 0, sum = 0, sum_absolute = 0;
#pragma unroll 4
        for (index_t t = 0; t < steps; ++t) {
            potential = plus(potential, widen(currents[t * time_stride + i]));
#if TRAINING
            potentials[t * size + i] = potential;
#endif
            const real spike = fire(potential, n, threshold, low, rule, table, (int)(channel * cells));
            spikes[t * size + i] = narrow<spike_t>(spike);
            const int whole_spike = (int)spike;
            times_active += whole_spike != 0;
            sum += whole_spike;
            sum_absolute += whole_spike < 0 ? -whole_spike : whole_spike;
        }
        v[i] = potential;
        if (COUNTS) count[i] = n;
        if (active) {
            active[i] += times_active;
            const index_t sum_channel = i / sum_inner % sum_channels;
            if (sum) atomicAdd(net + sum_channel, (unsigned long long)(index_t)sum);
            if (sum_absolute) atomicAdd(absolute + sum_channel, (unsigned long long)sum_absolute);
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
    const spike_t* __restrict__ grad_spikes, index_t grad_stride,          // [T, size] or null; over time
    const real* __restrict__ grad_v,                                       // [size] or null
    const real* __restrict__ potentials,                                   // [T, size]
    const spike_t* __restrict__ spikes, const real* __restrict__ count,    // [T, size], N(T) [size]; or null
    const real* __restrict__ thresholds, index_t channels, index_t inner,
    double lowest, double highest, double alpha, index_t arctan, index_t detach_reset,
    current_t* __restrict__ grad_currents, real* __restrict__ grad_v0)     // [T, size], [size]
{
    const index_t threads = (index_t)gridDim.x * blockDim.x;
    for (index_t i = (index_t)blockIdx.x * blockDim.x + threadIdx.x; i < size; i += threads) {
        const real threshold = thresholds[channels == 1 ? 0 : i / inner % channels];
        real grad = grad_v ? grad_v[i] : 0;
        real n = COUNTS ? count[i] : 0;
#pragma unroll 4
        for (index_t t = steps - 1; t >= 0; --t) {
            const real potential = potentials[t * size + i];
            real grad_spike = grad_spikes ? widen(grad_spikes[t * grad_stride + i]) : 0;
            if (!detach_reset) grad_spike -= grad * threshold;
            real slope = slope_at(potential - threshold, (real)alpha, arctan != 0);
#if COUNTS
            n -= widen(spikes[t * size + i]);  // the count before this step
            if (!(n < (real)highest)) slope = 0;
            if (n > (real)lowest) slope += slope_at(potential, (real)alpha, arctan != 0);
#endif
            grad += grad_spike * slope;
            grad_currents[t * size + i] = narrow<current_t>(grad);
        }
        grad_v0[i] = grad;
    }
}
"""
