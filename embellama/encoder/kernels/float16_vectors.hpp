// SPDX-License-Identifier: Apache-2.0
// Vectors of 32 numbers of float16 (AVX512-FP16), for the weights of attention, which are rounded to
// bfloat16: a float16 has three more bits. GELU is computed in float32: in float16 it cost
// multilingual-e5-small cosine (docs/encoder.md).
#pragma once

#include <immintrin.h>

#include "simd.hpp"

namespace embellama::encoder {
namespace {

// 32 numbers of float32.
struct FloatPair {
    Floats low, high;
};

EMBELLAMA_INLINE __m512h splat_half(float x) { return _mm512_set1_ph(static_cast<_Float16>(x)); }

// Numbers beyond 65504 become infinite.
EMBELLAMA_INLINE __m512h narrow_pair(FloatPair x) {
    const __m256i low = _mm256_castph_si256(_mm512_cvtxps_ph((__m512)x.low));
    const __m256i high = _mm256_castph_si256(_mm512_cvtxps_ph((__m512)x.high));
    return _mm512_castsi512_ph(_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
}

EMBELLAMA_INLINE FloatPair widen_pair(__m512h x) {
    const __m512i halves = _mm512_castph_si512(x);
    return {(Floats)_mm512_cvtxph_ps(_mm256_castsi256_ph(_mm512_castsi512_si256(halves))),
            (Floats)_mm512_cvtxph_ps(_mm256_castsi256_ph(_mm512_extracti64x4_epi64(halves, 1)))};
}

EMBELLAMA_INLINE void store_bfloat16(uint16_t * line, FloatPair x) {
    _mm512_storeu_si512(line, (__m512i)_mm512_cvtne2ps_pbh((__m512)x.high, (__m512)x.low));
}

EMBELLAMA_INLINE FloatPair load_pair(const float * source) { return {load(source), load(source + 16)}; }

// 2**x for x of any size but infinite; the relative error is below 2**-9. The polynomial is that of
// rough_power_of_two().
EMBELLAMA_INLINE __m512h power_of_two(__m512h x) {
    constexpr int TO_NEAREST = 0;
    const __m512h whole = _mm512_roundscale_ph(x, TO_NEAREST);
    const __m512h rest = _mm512_sub_ph(x, whole);
    __m512h p = _mm512_fmadd_ph(splat_half(0.05592f), rest, splat_half(0.24264f));
    p = _mm512_fmadd_ph(p, rest, splat_half(0.693138f));
    p = _mm512_fmadd_ph(p, rest, splat_half(0.999925f));
    return _mm512_scalef_ph(p, whole);
}

}  // namespace
}  // namespace embellama::encoder
