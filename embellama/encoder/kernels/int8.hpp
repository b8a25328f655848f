// SPDX-License-Identifier: Apache-2.0
// Weights in 8 bits with a scale for every 32 values of a column. They are stored in this format
// and multiplied in float32.
#pragma once

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "../kernels.hpp"
#include "simd.hpp"

namespace embellama::encoder {
namespace {

constexpr int VALUES_PER_SCALE = 32;

template <int COLUMNS>
void pack_int8_panel(const int8_t * columns, const float * scales, int depth, void * panel) {
    char * target = static_cast<char *>(panel);
    const int n_scales = depth / VALUES_PER_SCALE;
    for (int block = 0; block < n_scales; block++) {
        for (int column = 0; column < COLUMNS; column++) {
            memcpy(target + column * sizeof(float), scales + column * n_scales + block, sizeof(float));
        }
        target += COLUMNS * sizeof(float);
        for (int i = 0; i < VALUES_PER_SCALE; i++) {
            for (int column = 0; column < COLUMNS; column++) {
                *target++ = columns[static_cast<size_t>(column) * depth + block * VALUES_PER_SCALE + i];
            }
        }
    }
}

EMBELLAMA_INLINE Floats widen_int8(const int8_t * source) {
#if defined(__AVX512F__)
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i *>(source));
    return (Floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
#elif defined(__AVX2__)
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(source));
    return (Floats)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
#else
    typedef int8_t Bytes __attribute__((vector_size(EMBELLAMA_VECTOR_WIDTH), aligned(1), may_alias));
    return __builtin_convertvector(*reinterpret_cast<const Bytes *>(source), Floats);
#endif
}

}  // namespace
}  // namespace embellama::encoder
