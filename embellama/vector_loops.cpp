// SPDX-License-Identifier: Apache-2.0
#include "vector_loops.hpp"

#if defined(__F16C__)
#include <immintrin.h>
#endif

// This file is compiled once for each instruction set; EMBELLAMA_LOOPS is the name of its table of
// functions. It includes no header of the C++ library that defines functions: the linker would
// merge them with those of other files, and bring one set's instructions there.
namespace embellama {
namespace {

// Partial results: as many as four AVX-512 registers hold. Without -ffast-math the compiler must
// not reorder a single running sum, but it may keep independent sums in vector lanes. Four
// registers hide the latency of an addition, about four cycles.
constexpr int64_t LANES = 64;

// Rows added or compared at a time, so that `out` is read and written less often.
constexpr int64_t ROWS = 4;

// The size of a core's own cache. If rows are larger, they come from memory, and the hardware
// prefetcher starts again at each new row. Measurements: prefetching in software halves the time
// for rows in memory, and takes 1.5 times as long for rows in the cache.
constexpr int64_t CACHED_FLOATS = (1 << 20) / sizeof(float);
constexpr int64_t LINE_FLOATS = 64 / sizeof(float);

inline void read_ahead(const float * values, int64_t n_floats) {
    for (int64_t i = 0; i < n_floats; i += LINE_FLOATS) {
        __builtin_prefetch(values + i);
    }
}

// Adds halves of the lanes as long as they fill vectors; the last lanes are added in double.
inline double sum_lanes(float * partial) {
    for (int64_t lanes = LANES / 2; lanes >= 8; lanes /= 2) {
        for (int64_t lane = 0; lane < lanes; ++lane) {
            partial[lane] += partial[lane + lanes];
        }
    }
    double total = 0;
    for (int64_t lane = 0; lane < 8; ++lane) {
        total += partial[lane];
    }
    return total;
}

// The nearest float16, in its 16 bits. In C++, GCC has _Float16 from 12 on for x86-64, and from 13 on
// for ARM.
inline uint16_t to_half(float x) {
#if defined(__aarch64__)
    const __fp16 value = x;
    uint16_t half;
    __builtin_memcpy(&half, &value, sizeof(half));
    return half;
#elif defined(__F16C__)
    return _cvtss_sh(x, _MM_FROUND_CUR_DIRECTION);
#else
    uint32_t word;
    __builtin_memcpy(&word, &x, sizeof(word));
    const uint32_t sign = word >> 16 & 0x8000, size = word & 0x7fffffff;
    if (size >= 0x477ff000) {  // from 65520 on, and NaN
        return static_cast<uint16_t>(sign | (size > 0x7f800000 ? 0x7e00 : 0x7c00));
    }
    if (size < 0x38800000) {
        // Below 2**-14 a float16 is a multiple of 2**-24, to which float32 rounds from 0.5 on.
        const float sum = __builtin_fabsf(x) + 0.5f;
        uint32_t bits;
        __builtin_memcpy(&bits, &sum, sizeof(bits));
        return static_cast<uint16_t>(sign | (bits - 0x3f000000));
    }
    // Ties go to the even one of two. The exponents differ by 127 - 15.
    const uint32_t rounded = size + 0xfff + (size >> 13 & 1);
    return static_cast<uint16_t>(sign | ((rounded >> 13) - (112 << 10)));
#endif
}

// Keeps a NaN of either operand, as numpy.max does.
inline float larger(float a, float b) { return a > b || a != a ? a : b; }

void sum_rows(const float * rows, int64_t n_rows, int64_t n_dims, float * __restrict out) noexcept {
    __builtin_memcpy(out, rows, n_dims * sizeof(float));
    const bool far = n_rows * n_dims > CACHED_FLOATS;
    int64_t row = 1;
    for (; row + ROWS <= n_rows; row += ROWS) {
        const float * a = rows + row * n_dims;
        if (far) {
            read_ahead(a + 2 * ROWS * n_dims, ROWS * n_dims);
        }
        const float * b = a + n_dims;
        const float * c = b + n_dims;
        const float * d = c + n_dims;
        for (int64_t i = 0; i < n_dims; ++i) {
            out[i] += (a[i] + b[i]) + (c[i] + d[i]);
        }
    }
    for (; row < n_rows; ++row) {
        const float * a = rows + row * n_dims;
        for (int64_t i = 0; i < n_dims; ++i) {
            out[i] += a[i];
        }
    }
}

void max_rows(const float * rows, int64_t n_rows, int64_t n_dims, float * __restrict out) noexcept {
    __builtin_memcpy(out, rows, n_dims * sizeof(float));
    const bool far = n_rows * n_dims > CACHED_FLOATS;
    int64_t row = 1;
    for (; row + ROWS <= n_rows; row += ROWS) {
        const float * a = rows + row * n_dims;
        if (far) {
            read_ahead(a + 2 * ROWS * n_dims, ROWS * n_dims);
        }
        const float * b = a + n_dims;
        const float * c = b + n_dims;
        const float * d = c + n_dims;
        // Each comparison is one instruction. If a row holds a NaN, which is rare, the slow loop
        // below repeats the work.
        int32_t has_nan = 0;
        for (int64_t i = 0; i < n_dims; ++i) {
            const float ab = a[i] > b[i] ? a[i] : b[i];
            const float cd = c[i] > d[i] ? c[i] : d[i];
            const float abcd = ab > cd ? ab : cd;
            out[i] = abcd > out[i] ? abcd : out[i];
            has_nan |= __builtin_isunordered(a[i], b[i]) | __builtin_isunordered(c[i], d[i]);
        }
        for (int64_t i = 0; has_nan && i < ROWS * n_dims; ++i) {
            out[i % n_dims] = larger(a[i], out[i % n_dims]);
        }
    }
    for (; row < n_rows; ++row) {
        const float * a = rows + row * n_dims;
        for (int64_t i = 0; i < n_dims; ++i) {
            out[i] = larger(out[i], a[i]);
        }
    }
}

void scale(float * vector, int64_t n_dims, float factor) noexcept {
    for (int64_t i = 0; i < n_dims; ++i) {
        vector[i] *= factor;
    }
}

void divide(float * vector, int64_t n_dims, double divisor) noexcept {
    for (int64_t i = 0; i < n_dims; ++i) {
        vector[i] = static_cast<float>(vector[i] / divisor);
    }
}

double dot(const float * a, const float * b, int64_t n_dims) noexcept {
    float partial[LANES] = {};
    int64_t i = 0;
    for (; i + LANES <= n_dims; i += LANES) {
        for (int64_t lane = 0; lane < LANES; ++lane) {
            partial[lane] += a[i + lane] * b[i + lane];
        }
    }
    double total = sum_lanes(partial);
    for (; i < n_dims; ++i) {
        total += static_cast<double>(a[i]) * b[i];
    }
    return total;
}

float max_abs(const float * vector, int64_t n_dims) noexcept {
    float partial[LANES] = {};
    int64_t i = 0;
    for (; i + LANES <= n_dims; i += LANES) {
        for (int64_t lane = 0; lane < LANES; ++lane) {
            const float value = __builtin_fabsf(vector[i + lane]);
            partial[lane] = value > partial[lane] ? value : partial[lane];
        }
    }
    float peak = 0;
    for (; i < n_dims; ++i) {
        peak = __builtin_fmaxf(peak, __builtin_fabsf(vector[i]));
    }
    for (const float value : partial) {
        peak = __builtin_fmaxf(peak, value);
    }
    return peak;
}

bool is_finite(const float * vector, int64_t n_dims) noexcept {
    // x * 0 is 0 for finite x and NaN otherwise, and a sum with a NaN is NaN.
    float partial[LANES] = {};
    int64_t i = 0;
    for (; i + LANES <= n_dims; i += LANES) {
        for (int64_t lane = 0; lane < LANES; ++lane) {
            partial[lane] += vector[i + lane] * 0.0f;
        }
    }
    double total = sum_lanes(partial);
    for (; i < n_dims; ++i) {
        total += vector[i] * 0.0f;
    }
    return total == 0;
}

void to_float16(const float * vector, int64_t n_dims, uint16_t * __restrict out) noexcept {
    int64_t i = 0;
    // Intrinsics, because GCC 12 would convert one value at a time.
#if defined(__F16C__)
    for (; i + 8 <= n_dims; i += 8) {
        const __m128i halves = _mm256_cvtps_ph(_mm256_loadu_ps(vector + i), _MM_FROUND_CUR_DIRECTION);
        _mm_storeu_si128(reinterpret_cast<__m128i *>(out + i), halves);
    }
#endif
    for (; i < n_dims; ++i) {
        out[i] = to_half(vector[i]);
    }
}

void to_int8(const float * vector, int64_t n_dims, int8_t * __restrict out) noexcept {
    for (int64_t i = 0; i < n_dims; ++i) {
        const float value = __builtin_nearbyintf(vector[i] * 127.0f);
        out[i] = static_cast<int8_t>(static_cast<int32_t>(value > 127 ? 127.0f : value < -127 ? -127.0f : value));
    }
}

void to_levels(const float * vector, int64_t n_dims, const float * starts, const float * steps, uint8_t flip,
               uint8_t * __restrict out) noexcept {
    for (int64_t i = 0; i < n_dims; ++i) {
        // Halves are subtracted, because the full difference may exceed float32.
        const float level = __builtin_floorf((0.5f * vector[i] - 0.5f * starts[i]) / steps[i] * 2);
        out[i] = static_cast<uint8_t>(static_cast<int32_t>(level > 255 ? 255.0f : level < 0 ? 0.0f : level)) ^ flip;
    }
}

void to_bits(const float * vector, int64_t n_dims, uint8_t flip, uint8_t * __restrict out) noexcept {
    const int64_t whole = n_dims / 8;
    for (int64_t i = 0; i < whole; ++i) {
        uint32_t bits = 0;
        for (int bit = 0; bit < 8; ++bit) {
            bits |= static_cast<uint32_t>(vector[8 * i + bit] > 0) << (7 - bit);
        }
        out[i] = static_cast<uint8_t>(bits) ^ flip;
    }
    if (whole * 8 < n_dims) {
        uint32_t bits = 0;
        for (int64_t i = whole * 8; i < n_dims; ++i) {
            bits |= static_cast<uint32_t>(vector[i] > 0) << (7 - i % 8);
        }
        out[whole] = static_cast<uint8_t>(bits) ^ flip;
    }
}

}  // namespace

extern const VectorLoops EMBELLAMA_LOOPS = {
    sum_rows, max_rows, scale, divide, dot, max_abs, is_finite, to_float16, to_int8, to_levels, to_bits,
};

}  // namespace embellama
