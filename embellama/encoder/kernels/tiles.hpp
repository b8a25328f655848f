// SPDX-License-Identifier: Apache-2.0
// Packs rows of float32 into tiles and panels (kernels.hpp describes both).
#pragma once

#include "../kernels.hpp"
#include "simd.hpp"

namespace embellama::encoder {
namespace {

// The beginning of the line of a row that holds value `k`.
template <typename Number>
EMBELLAMA_INLINE typename Number::Value * line_of(const Tiles & tiles, int row, int k) {
    constexpr int LINE = Number::VALUES_PER_LINE;
    const int rows = tiles.rows_per_block;
    const size_t block = static_cast<size_t>(row / rows) * rows * tiles.depth;
    const size_t line = static_cast<size_t>(k / LINE) * rows * LINE;
    return static_cast<typename Number::Value *>(tiles.data) + block + line + static_cast<size_t>(row % rows) * LINE;
}

template <typename Number>
EMBELLAMA_INLINE void store_tile_row(const Tiles & tiles, int row, const float * values) {
    typename Number::Value * line = line_of<Number>(tiles, row, 0);
    for (int k = 0; k < tiles.depth; k += Number::VALUES_PER_LINE) {
        Number::store_line(line, values + k);
        line += tiles.rows_per_block * Number::VALUES_PER_LINE;
    }
}

template <typename Number>
void pack_rows(const float * rows, int64_t row_stride, const Tiles & tiles, int first_row, int last_row) {
    for (int row = first_row; row < last_row; row++) {
        store_tile_row<Number>(tiles, row, rows + row * row_stride);
    }
}

// Makes a panel of n_columns <= COLUMNS columns. Each column is a row of `depth` values in memory,
// and is filled with zeros up to a whole line. The other columns of the panel are not written.
template <typename Number, int COLUMNS>
EMBELLAMA_INLINE void transpose_into_panel(const float * columns, int64_t stride, int n_columns, int depth,
                                           typename Number::Value * panel) {
    constexpr int LINE = Number::VALUES_PER_LINE;
    uint32_t * words = reinterpret_cast<uint32_t *>(panel);
    for (int k = 0; k < depth; k += LINE) {
        for (int column = 0; column < n_columns; column++) {
            const float * source = columns + column * stride + k;
            alignas(64) float values[LINE];
            if (k + LINE > depth) {
                memset(values, 0, sizeof values);
                memcpy(values, source, (depth - k) * sizeof(float));
                source = values;
            }
            alignas(64) uint32_t line[16];
            Number::store_line(reinterpret_cast<typename Number::Value *>(line), source);
            for (int i = 0; i < 16; i++) {
                words[i * COLUMNS + column] = line[i];
            }
        }
        words += 16 * COLUMNS;
    }
}

}  // namespace
}  // namespace embellama::encoder
