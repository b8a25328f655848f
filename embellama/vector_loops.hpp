// SPDX-License-Identifier: Apache-2.0
// Loops over float32 vectors, compiled for several instruction sets: a table of functions for each.
#pragma once

#include <cstdint>

#include "runtime/cpu_features.hpp"

namespace embellama {

struct VectorLoops {
    // rows: n_rows x n_dims, contiguous; n_rows >= 1. `out` does not overlap them.
    void (*sum_rows)(const float * rows, int64_t n_rows, int64_t n_dims, float * out) noexcept;
    void (*max_rows)(const float * rows, int64_t n_rows, int64_t n_dims, float * out) noexcept;

    void (*scale)(float * vector, int64_t n_dims, float factor) noexcept;
    void (*divide)(float * vector, int64_t n_dims, double divisor) noexcept;
    double (*dot)(const float * a, const float * b, int64_t n_dims) noexcept;
    float (*max_abs)(const float * vector, int64_t n_dims) noexcept;
    bool (*is_finite)(const float * vector, int64_t n_dims) noexcept;

    // Rounds to nearest, ties to even.
    void (*to_float16)(const float * vector, int64_t n_dims, uint16_t * out) noexcept;
    // round(127 * x), from -127 to 127.
    void (*to_int8)(const float * vector, int64_t n_dims, int8_t * out) noexcept;
    // floor((x - start) / step), from 0 to 255; the highest bit is flipped if `flip` is 0x80.
    void (*to_levels)(const float * vector, int64_t n_dims, const float * starts, const float * steps, uint8_t flip,
                      uint8_t * out) noexcept;
    // A bit per dimension, set if x > 0, the first dimension in the highest bit. `flip` as above.
    void (*to_bits)(const float * vector, int64_t n_dims, uint8_t flip, uint8_t * out) noexcept;
};

extern const VectorLoops generic_loops;
#if defined(__x86_64__)
extern const VectorLoops avx2_loops;
extern const VectorLoops avx512_loops;
#endif

// The caller has made sure that instructions up to `limit` may be used.
inline const VectorLoops & loops_for([[maybe_unused]] InstructionSet limit) {
#if defined(__x86_64__)
    if (limit >= InstructionSet::AVX512) {
        return avx512_loops;
    }
    if (limit >= InstructionSet::AVX2) {
        return avx2_loops;
    }
#endif
    return generic_loops;
}

}  // namespace embellama
