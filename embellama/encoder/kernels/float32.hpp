// SPDX-License-Identifier: Apache-2.0
// Arithmetic in float32: a word is one value.
#pragma once

#include "../kernels.hpp"
#include "float16.hpp"
#include "int8.hpp"
#include "simd.hpp"
#include "tiles.hpp"

namespace embellama::encoder {
namespace {

struct Float32 {
    using Value = float;
    static constexpr int VALUES_PER_WORD = 1;
    static constexpr int VALUES_PER_LINE = 16;

    // sum + word * column, the word repeated.
    EMBELLAMA_INLINE Floats multiply_add(Floats sum, const Value * word, const Value * column) {
        return splat(*word) * load(column) + sum;
    }

    EMBELLAMA_INLINE void store_line(Value * line, const float * values) {
        memcpy(line, values, 64);
    }

    // Words of neighbouring rows side by side: a panel whose depth runs along the rows of `values`.
    EMBELLAMA_INLINE void interleave(const float * upper, const float *, Value * words, int n) {
        memcpy(words, upper, n * sizeof(float));
    }

    EMBELLAMA_INLINE Floats exponential(Floats x) { return power_of_two(x); }

    EMBELLAMA_INLINE Floats gelu(Floats x) { return gelu_erf(x); }

    static WeightFormat format_for(WeightFormat file) { return file; }

    // In the file's own format: half the memory, and widened once for all rows of a chunk.
    template <int COLUMNS>
    static void pack_panel(const float * columns, int depth, WeightFormat format, void * panel) {
        constexpr int LINE = VALUES_PER_LINE;
        alignas(64) float words[LINE * COLUMNS];
        for (int k = 0; k < depth; k += LINE) {
            transpose_into_panel<Float32, COLUMNS>(columns + k, depth, COLUMNS, LINE, words);
            for (int i = 0; i < LINE * COLUMNS; i += WIDTH) {
                const size_t at = static_cast<size_t>(k) * COLUMNS + i;
                if (format == WeightFormat::FLOAT32) {
                    store(static_cast<float *>(panel) + at, load(words + i));
                } else if (format == WeightFormat::FLOAT16) {
                    narrow_float16(load(words + i), static_cast<uint16_t *>(panel) + at);
                } else {
                    narrow_bfloat16(load(words + i), static_cast<uint16_t *>(panel) + at);
                }
            }
        }
    }

    // The panel as words: itself, or widened into `scratch`.
    template <int COLUMNS>
    EMBELLAMA_INLINE const Value * words(const void * panel, WeightFormat format, int depth, Value * scratch) {
        const size_t n = static_cast<size_t>(depth) * COLUMNS;
        if (format == WeightFormat::INT8) {
            widen_int8_panel<COLUMNS>(panel, depth, scratch);
            return scratch;
        }
        if (format == WeightFormat::FLOAT32) {
            return static_cast<const Value *>(panel);
        }
        const uint16_t * source = static_cast<const uint16_t *>(panel);
        if (format == WeightFormat::BFLOAT16) {
            for (size_t i = 0; i < n; i += WIDTH) {
                store(scratch + i, widen_bfloat16(source + i));
            }
        } else {
            for (size_t i = 0; i < n; i += WIDTH) {
                store(scratch + i, widen_float16(source + i));
            }
        }
        return scratch;
    }
};

}  // namespace
}  // namespace embellama::encoder
