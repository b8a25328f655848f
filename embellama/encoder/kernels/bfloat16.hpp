// SPDX-License-Identifier: Apache-2.0
// Products of bfloat16 summed in float32 (AVX512_BF16): a word is two neighbouring values.
#pragma once

#include <immintrin.h>

#include "../kernels.hpp"
#include "simd.hpp"
#include "tiles.hpp"

namespace embellama::encoder {
namespace {

struct Bfloat16 {
    using Value = uint16_t;
    static constexpr int VALUES_PER_WORD = 2;
    static constexpr int VALUES_PER_LINE = 32;

    EMBELLAMA_INLINE Floats multiply_add(Floats sum, const Value * word, __m512bh columns) {
        int32_t pair;
        memcpy(&pair, word, sizeof pair);
#if defined(__clang__) && __clang_major__ < 18
        // Clang 16 crashes on the intrinsic in a loop.
        __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(_mm512_set1_epi32(pair)), "v"((__m512i)columns));
        return sum;
#else
        return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(pair), columns);
#endif
    }

    EMBELLAMA_INLINE void store_line(Value * line, const float * values) {
        _mm512_storeu_si512(line, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(values + 16), _mm512_loadu_ps(values)));
    }

    EMBELLAMA_INLINE void interleave(const float * upper, const float * lower, Value * words, int n) {
        for (int i = 0; i < n; i += 16) {
            const __m512i first = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(upper + i)));
            const __m512i second = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(lower + i)));
            _mm512_storeu_si512(words + 2 * i, _mm512_or_si512(first, _mm512_slli_epi32(second, 16)));
        }
    }

    EMBELLAMA_INLINE Floats exponential(Floats x) { return rough_power_of_two(x); }

    // x * Phi(x), Phi as 1 / (1 + 2**p(x)) with an odd polynomial p fitted to its logit for
    // |x| < 5.5; within 2e-4.
    EMBELLAMA_INLINE Floats gelu(Floats x) {
        const Floats square = minimum(x * x, splat(30.0f));
        Floats p = splat(2.4835751e-05f) * square + splat(0.0007360727f);
        p = p * square + splat(-0.105982776f);
        p = p * square + splat(-2.30164711f);
        const Floats e = rough_power_of_two(minimum(p * x, splat(126.0f)));
        return x * (Floats)_mm512_rcp14_ps((__m512)(e + splat(1.0f)));
    }

    // The format of a panel of words.
    static constexpr WeightFormat WORDS = WeightFormat::BFLOAT16;

    static WeightFormat format_for(WeightFormat) { return WORDS; }

    template <int COLUMNS>
    static void pack_panel(const float * columns, int depth, WeightFormat, void * panel) {
        transpose_into_panel<Bfloat16, COLUMNS>(columns, depth, COLUMNS, depth, static_cast<Value *>(panel));
    }

    template <WeightFormat, int COLUMNS>
    struct PanelLine {
        const Value * words;

        PanelLine(const void * panel, int line)
            : words(static_cast<const Value *>(panel) + static_cast<size_t>(line) * VALUES_PER_LINE * COLUMNS) {}

        __attribute__((always_inline)) __m512bh load(int word, int column) const {
            return (__m512bh)_mm512_loadu_si512(words + (word * COLUMNS + column) * VALUES_PER_WORD);
        }
    };
};

}  // namespace
}  // namespace embellama::encoder
