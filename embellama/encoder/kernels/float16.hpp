// SPDX-License-Identifier: Apache-2.0
// IEEE 754 half precision, for weights that a file holds in it.
#pragma once

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "simd.hpp"

namespace embellama::encoder {
namespace {

#if defined(__AVX512F__)

EMBELLAMA_INLINE Floats widen_float16(const uint16_t * source) {
    return (Floats)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(source)));
}

EMBELLAMA_INLINE void narrow_float16(Floats x, uint16_t * target) {
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(target), _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT));
}

#elif defined(__F16C__)

EMBELLAMA_INLINE Floats widen_float16(const uint16_t * source) {
    return (Floats)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(source)));
}

EMBELLAMA_INLINE void narrow_float16(Floats x, uint16_t * target) {
    _mm_storeu_si128(reinterpret_cast<__m128i *>(target), _mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT));
}

#else

EMBELLAMA_INLINE Floats widen_float16(const uint16_t * source) {
    const Words bits = __builtin_convertvector(*reinterpret_cast<const UnalignedHalves *>(source), Words);
    // A float32 with the half's exponent and significand is 2**112 too small, denormal or not.
    const Floats size = (Floats)((bits & 0x7fffu) << 13) * splat(0x1p112f);
    const Words special = (Words)((bits & 0x7c00u) == 0x7c00u) & 0x7f800000u;
    return (Floats)((Words)size | special | (bits & 0x8000u) << 16);
}

// The values must be float16 numbers already: nothing is rounded.
EMBELLAMA_INLINE void narrow_float16(Floats x, uint16_t * target) {
    const Words bits = (Words)x;
    const Words size = (Words)((Floats)(bits & 0x7fffffffu) * splat(0x1p-112f)) >> 13;
    const Words special = (Words)((bits & 0x7f800000u) == 0x7f800000u);
    const Words payload = 0x7c00u | (bits >> 13 & 0x3ffu);
    const Words half = (special & payload) | (~special & size) | (bits >> 16 & 0x8000u);
    *reinterpret_cast<UnalignedHalves *>(target) = __builtin_convertvector(half, Halves);
}

#endif

}  // namespace
}  // namespace embellama::encoder
