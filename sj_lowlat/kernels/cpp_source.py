"""The multi-step neuron and the pool of spike counts in C++ for the CPU."""

from __future__ import annotations

from sj_lowlat.kernels.source import Variant


def cpp_source(variant: Variant) -> str:
    """The function ``neurons``: arguments of the CUDA kernel, then a number of threads. Blocks of neurons
    stay in the first cache for all T steps, so that main memory is read and written once."""
    return variant.source(_OPERATIONS, _NEURONS)


def pool_source(variant: Variant) -> str:
    """The function ``pool``: spikes that pass windows that do not overlap, by the counts in each."""
    return variant.source(_OPERATIONS, _POOL)


_OPERATIONS = r"""
#define INLINE inline __attribute__((always_inline))
template <class To, class From> inline To bits_as(From from) {
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}
INLINE float __uint_as_float(unsigned int bits) { return bits_as<float>(bits); }
INLINE unsigned int __float_as_uint(float a) { return bits_as<unsigned int>(a); }
INLINE double __longlong_as_double(long long bits) { return bits_as<double>(bits); }
INLINE long long __double_as_longlong(double a) { return bits_as<long long>(a); }
#if USES_FLOAT16
INLINE float float_of_half(unsigned short bits) { return (float)bits_as<_Float16>(bits); }
INLINE unsigned short half_of_float(float a) { return bits_as<unsigned short>((_Float16)a); }
#endif
INLINE real plus(real a, real b) { return a + b; }
INLINE real minus(real a, real b) { return a - b; }
INLINE real times(real a, real b) { return a * b; }
INLINE real over(real a, real b) { return a / b; }
INLINE float whole(float a) { return __builtin_floorf(a); }
INLINE bool reaches(real a, real b) { return a >= b; }
INLINE double whole(double a) { return __builtin_floor(a); }
"""

_NEURONS = r"""
#define BLOCK 1024

// One step of a block. UNIT: all thresholds are 1, which saves a division; EACH: one for every neuron.
template <bool UNIT, bool EACH, bool SUMS>
static void step(index_t size, const current_t* __restrict__ currents, real* __restrict__ v,
                 real* __restrict__ count, const real* __restrict__ thresholds,
                 const real* __restrict__ lows, Limits rule, Table table, const int* __restrict__ rows,
                 spike_t* __restrict__ spikes,
                 int* __restrict__ active, int* __restrict__ net, int* __restrict__ absolute) {
    for (index_t i = 0; i < size; ++i) {
        const real threshold = UNIT ? (real)1 : thresholds[EACH ? i : 0];
        real potential = plus(v[i], widen(currents[i])), n = COUNTS ? count[i] : 0;
        const real spike = fire(potential, n, threshold, lows[EACH ? i : 0], rule, table, EACH ? rows[i] : 0);
        v[i] = potential;
        if (COUNTS) count[i] = n;
        spikes[i] = narrow<spike_t>(spike);
        if (SUMS) {
            const int number = (int)spike;
            active[i] += number != 0;
            net[i] += number;
            absolute[i] += number < 0 ? -number : number;
        }
    }
}

// Add the sums of a block's neurons to those of their channels.
static void add_up(index_t first, index_t size, const int* __restrict__ each, index_t channels, index_t inner,
                   index_t* __restrict__ sums) {
    index_t channel = first / inner % channels, left = inner - first % inner;
    for (index_t i = 0; i < size;) {
        index_t run;
        if (inner == 1) {  // neighbours are of different channels
            run = channels - channel < size - i ? channels - channel : size - i;
            for (index_t j = 0; j < run; ++j) sums[channel + j] += each[i + j];
            channel = 0;
        } else {
            run = left < size - i ? left : size - i;
            index_t sum = 0;
            for (index_t j = 0; j < run; ++j) sum += each[i + j];
            sums[channel] += sum;
            channel = channel + 1 < channels ? channel + 1 : 0;
            left = inner;
        }
        i += run;
    }
}

extern "C" void neurons(
    index_t steps, index_t size, const current_t* currents, index_t time_stride, real* v, real* count,
    const real* thresholds, const real* lows, index_t channels, index_t inner,
    double lowest, double highest, double down, double up, spike_t* spikes, real*,
    int* active, index_t* net, index_t* absolute, index_t sum_channels, index_t sum_inner,
    const real* steps_of_table, const int* firsts, index_t cells, index_t left, index_t shift,
    index_t threads)
{
    const Table table = {steps_of_table, firsts, (int)cells, (int)left, (int)shift};
    const Limits rule = {(real)lowest, (real)highest, (real)down, (real)up};
    const index_t blocks = (size + BLOCK - 1) / BLOCK;
    const bool unit = channels == 1 && thresholds[0] == 1;
    const auto one = channels > 1 ? (active ? step<false, true, true> : step<false, true, false>)
        : unit ? (active ? step<true, false, true> : step<true, false, false>)
        : (active ? step<false, false, true> : step<false, false, false>);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        // short rows of channels are slow to add up: several rows side by side count as one
        const index_t wide = sum_inner == 1 ? sum_channels * (1 + 255 / sum_channels) : sum_channels;
        index_t* sums = active ? new index_t[2 * wide]() : 0;
        real each_threshold[BLOCK], each_low[BLOCK], none[BLOCK] = {};
        int each_net[BLOCK], each_absolute[BLOCK], rows[BLOCK] = {};
#pragma omp for schedule(static)
        for (index_t block = 0; block < blocks; ++block) {
            const index_t first = block * BLOCK, here = size - first < BLOCK ? size - first : BLOCK;
            index_t channel = first / inner % channels, left = inner - first % inner;
            for (index_t i = 0; i < here && channels > 1; ++i) {
                each_threshold[i] = thresholds[channel];
                each_low[i] = lows ? lows[channel] : 0;
                rows[i] = (int)(channel * cells);
                if (--left) continue;
                channel = channel + 1 < channels ? channel + 1 : 0;
                left = inner;
            }
            for (index_t i = 0; i < here && active; ++i) each_net[i] = each_absolute[i] = 0;
            for (index_t t = 0; t < steps; ++t)
                one(here, currents + t * time_stride + first, v + first, COUNTS ? count + first : 0,
                    channels > 1 ? each_threshold : thresholds, channels > 1 ? each_low : lows ? lows : none,
                    rule, table, rows, spikes + t * size + first, active ? active + first : 0, each_net,
                    each_absolute);
            if (active) {
                add_up(first, here, each_net, wide, sum_inner, sums);
                add_up(first, here, each_absolute, wide, sum_inner, sums + wide);
            }
        }
        if (active) {
#pragma omp critical
            for (index_t c = 0; c < wide; ++c) {
                net[c % sum_channels] += sums[c];
                absolute[c % sum_channels] += sums[wide + c];
            }
            delete[] sums;
        }
    }
}
"""

_POOL = r"""
#define CHANNELS 64  // of which 16 at a time fill a vector, whatever the dtype of the spikes

// Sends what the maximum of each window's counts changes by, or (GATE) the spikes of the input that has this
// maximum, the first of equals. Channels lie innermost, each window is read once. rows: those of the output,
// of all images one below the other.
template <bool GATE>
static void windows(index_t steps, index_t rows, index_t width, index_t channels, index_t side,
                    const spike_t* spikes, real* count, real* sent, spike_t* out, index_t threads) {
    const index_t row = width * side * channels;  // of the input
    const index_t size = rows * side * row, pooled = rows * width * channels;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (index_t y = 0; y < rows; ++y)
        for (index_t x = 0; x < width; ++x)
            for (index_t c = 0; c < channels; c += CHANNELS) {
                const index_t here = channels - c < CHANNELS ? channels - c : CHANNELS;
                const index_t corner = y * side * row + x * side * channels + c;
                const index_t to = (y * width + x) * channels + c;
                for (index_t t = 0; t < steps; ++t) {
                    real most[CHANNELS], passing[CHANNELS];
                    for (index_t i = 0; i < here; ++i) most[i] = -__builtin_huge_valf();
                    for (index_t j = 0; j < side; ++j)
                        for (index_t k = 0; k < side; ++k) {
                            real* __restrict__ counts = count + corner + j * row + k * channels;
                            const spike_t* __restrict__ fired =
                                spikes + t * size + corner + j * row + k * channels;
#pragma omp simd simdlen(16)
                            for (index_t i = 0; i < here; ++i) {
                                const real spike = widen(fired[i]), n = plus(counts[i], spike);
                                counts[i] = n;
                                if (GATE) passing[i] = most[i] < n ? spike : passing[i];
                                most[i] = most[i] < n ? n : most[i];
                            }
                        }
                    spike_t* __restrict__ result = out + t * pooled + to;
                    if (GATE) {
#pragma omp simd simdlen(16)
                        for (index_t i = 0; i < here; ++i) result[i] = narrow<spike_t>(passing[i]);
                        continue;
                    }
                    real* __restrict__ before = sent + to;
#pragma omp simd simdlen(16)
                    for (index_t i = 0; i < here; ++i) {
                        result[i] = narrow<spike_t>(minus(most[i], before[i]));
                        before[i] = most[i];
                    }
                }
            }
}

// sent: counts sent so far; null for a gate, which needs none
extern "C" void pool(
    index_t steps, index_t rows, index_t width, index_t channels, index_t side,
    const spike_t* spikes, real* count, real* sent, spike_t* out, index_t threads)
{
    auto* way = sent ? windows<false> : windows<true>;
    way(steps, rows, width, channels, side, spikes, count, sent, out, threads);
}
"""
