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

    // sum + word * columns, the word repeated.
    EMBELLAMA_INLINE Floats multiply_add(Floats sum, const Value * word, Floats columns) {
        return splat(*word) * columns + sum;
    }

    EMBELLAMA_INLINE void store_line(Value * line, const float * values) { memcpy(line, values, 64); }

    // Puts the words of neighbouring rows side by side, for a panel whose depth runs along the rows
    // of the values.
    EMBELLAMA_INLINE void interleave(const float * upper, const float *, Value * words, int n) {
        memcpy(words, upper, n * sizeof(float));
    }

    EMBELLAMA_INLINE Floats exponential(Floats x) { return power_of_two(x); }

    EMBELLAMA_INLINE Floats gelu(Floats x) { return gelu_erf(x); }

    // The format of a panel of words.
    static constexpr WeightFormat WORDS = WeightFormat::FLOAT32;

    static WeightFormat format_for(WeightFormat file) { return file; }

    // Panels keep the format of the file: 16-bit values take half the memory, and are widened once
    // for all rows of a chunk.
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

    // 16 words of each column of a panel.
    template <WeightFormat FORMAT, int COLUMNS>
    struct PanelLine {
        const void * values;
        const float * scales = nullptr;  // of INT8

        PanelLine(const void * panel, int line) {
            const size_t first = static_cast<size_t>(line) * VALUES_PER_LINE * COLUMNS;
            if constexpr (FORMAT == WeightFormat::INT8) {
                // A scale for the values of two lines.
                const char * scaled = static_cast<const char *>(panel) + first + (line / 2) * COLUMNS * sizeof(float);
                scales = reinterpret_cast<const float *>(scaled - line % 2 * VALUES_PER_LINE * COLUMNS);
                values = scaled + COLUMNS * sizeof(float);
            } else {
                values = static_cast<const char *>(panel) + first * (FORMAT == WeightFormat::FLOAT32 ? 4 : 2);
            }
        }

        __attribute__((always_inline)) Floats load(int word, int column) const {
            const int at = word * COLUMNS + column;
            if constexpr (FORMAT == WeightFormat::FLOAT32) {
                return encoder::load(static_cast<const float *>(values) + at);
            } else if constexpr (FORMAT == WeightFormat::FLOAT16) {
                return widen_float16(static_cast<const uint16_t *>(values) + at);
            } else if constexpr (FORMAT == WeightFormat::BFLOAT16) {
                return widen_bfloat16(static_cast<const uint16_t *>(values) + at);
            } else {
                return widen_int8(static_cast<const int8_t *>(values) + at) * encoder::load(scales + column);
            }
        }
    };
};

}  // namespace
}  // namespace embellama::encoder
