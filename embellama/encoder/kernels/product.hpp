// SPDX-License-Identifier: Apache-2.0
// Tiles times panels, and what follows in the same breath: bias, activation, residual.
#pragma once

#include "../kernels.hpp"
#include "simd.hpp"
#include "tiles.hpp"

namespace embellama::encoder {
namespace {

// Input tiles that stay in the second-level cache while the panels pass.
constexpr size_t CHUNK_BYTES = 384 * 1024;

// Sums of ROWS rows and all columns of a panel, held in registers for the whole depth.
template <typename Number, int ROWS, int COLUMNS>
__attribute__((noinline)) void multiply_block(const typename Number::Value * tile, int rows_per_block, int n_lines,
                                              const typename Number::Value * panel, float * sums, int stride) {
    constexpr int VECTORS = COLUMNS / WIDTH;
    constexpr int LINE = Number::VALUES_PER_LINE;
    constexpr int STEP = Number::VALUES_PER_WORD;
    Floats sum[ROWS][VECTORS] = {};
    for (int line = 0; line < n_lines; line++) {
        for (int i = 0; i < 16; i++) {
#pragma GCC unroll 16
            for (int row = 0; row < ROWS; row++) {
#pragma GCC unroll 4
                for (int vector = 0; vector < VECTORS; vector++) {
                    sum[row][vector] = Number::multiply_add(sum[row][vector], tile + row * LINE + i * STEP,
                                                            panel + vector * WIDTH * STEP);
                }
            }
            panel += COLUMNS * STEP;
        }
        tile += rows_per_block * LINE;
    }
    for (int row = 0; row < ROWS; row++) {
        for (int vector = 0; vector < VECTORS; vector++) {
            store(sums + row * stride + vector * WIDTH, sum[row][vector]);
        }
    }
}

// Blocks of up to ROWS rows, whose sums are in vector registers.
template <typename N, int ROWS_, int COLUMNS_>
struct Registers {
    using Number = N;
    using Value = typename Number::Value;
    static constexpr int ROWS = ROWS_;
    static constexpr int COLUMNS = COLUMNS_;

    // Around products of tiles with blocks of `rows_per_block` rows.
    explicit Registers(int) {}

    // Of the first n_rows rows of a block; their sums are `stride` apart.
    EMBELLAMA_INLINE void multiply(int n_rows, const Value * tile, int rows_per_block, int n_lines,
                                   const Value * panel, float * sums, int stride) {
        multiply_rows<ROWS>(n_rows, tile, rows_per_block, n_lines, panel, sums, stride);
    }

private:
    template <int MOST>
    EMBELLAMA_INLINE void multiply_rows(int n_rows, const Value * tile, int rows_per_block, int n_lines,
                                        const Value * panel, float * sums, int stride) {
        if constexpr (MOST > 1) {
            if (n_rows < MOST) {
                return multiply_rows<MOST - 1>(n_rows, tile, rows_per_block, n_lines, panel, sums, stride);
            }
        }
        multiply_block<Number, MOST, COLUMNS>(tile, rows_per_block, n_lines, panel, sums, stride);
    }
};

template <typename Number, int COLUMNS>
EMBELLAMA_INLINE void activate(Activation activation, float * sums, const float * bias) {
    for (int i = 0; i < COLUMNS; i += WIDTH) {
        Floats x = load(sums + i);
        if (bias) {
            x += load(bias + i);
        }
        if (activation == Activation::GELU_ERF) {
            x = Number::gelu(x);
        } else if (activation == Activation::GELU_TANH) {
            x = gelu_tanh(x);
        }
        store(sums + i, x);
    }
}

template <typename Number, int COLUMNS>
EMBELLAMA_INLINE void finish(const Product & product, int first_row, int n_rows, int column, float * sums) {
    const float * bias = product.bias ? product.bias + column : nullptr;
    const size_t stride = product.weights.n_columns;
    for (int row = 0; row < n_rows; row++, sums += COLUMNS) {
        activate<Number, COLUMNS>(product.activation, sums, bias);
        const size_t at = (first_row + row) * stride + column;
        if (product.residual) {
            for (int i = 0; i < COLUMNS; i += WIDTH) {
                store(sums + i, load(sums + i) + load(product.residual + at + i));
            }
        }
        if (product.rows) {
            memcpy(product.rows + at, sums, COLUMNS * sizeof(float));
        } else {
            for (int i = 0; i < COLUMNS; i += Number::VALUES_PER_LINE) {
                Number::store_line(line_of<Number>(product.tiles, first_row + row, column + i), sums + i);
            }
        }
    }
}

template <int COLUMNS>
size_t panel_bytes(int depth, WeightFormat format) {
    const size_t n = static_cast<size_t>(depth) * COLUMNS;
    return format == WeightFormat::FLOAT32 ? 4 * n : format == WeightFormat::INT8 ? n + n / 32 * sizeof(float) : 2 * n;
}

// How the rows of a product are divided.
template <typename Number>
struct Chunks {
    int rows_per_block;
    int rows_per_chunk;

    explicit Chunks(const Tiles & input) {
        rows_per_block = input.rows_per_block;
        const size_t bytes_per_block = sizeof(typename Number::Value) * rows_per_block * input.depth;
        rows_per_chunk = bytes_per_block < CHUNK_BYTES ? static_cast<int>(CHUNK_BYTES / bytes_per_block) : 1;
        rows_per_chunk *= rows_per_block;
    }
};

template <typename Block>
void multiply(const Product & product, int first_panel, int last_panel, void * scratch) {
    using Number = typename Block::Number;
    using Value = typename Block::Value;
    constexpr int COLUMNS = Block::COLUMNS;
    static_assert(COLUMNS % Number::VALUES_PER_LINE == 0 && GRANULE % COLUMNS == 0);
    const Tiles & input = product.input;
    const Weights & weights = product.weights;
    const size_t bytes_per_panel = panel_bytes<COLUMNS>(weights.depth, weights.format);
    const int n_lines = weights.depth / Number::VALUES_PER_LINE;
    const Chunks<Number> chunks(input);
    Block block(chunks.rows_per_block);
    alignas(64) float sums[Block::ROWS * COLUMNS];
    for (int chunk = 0; chunk < input.n_rows; chunk += chunks.rows_per_chunk) {
        const int end = smaller(chunk + chunks.rows_per_chunk, input.n_rows);
        for (int index = first_panel; index < last_panel; index++) {
            const Value * panel = Number::template words<COLUMNS>(
                static_cast<const char *>(weights.panels) + index * bytes_per_panel, weights.format, weights.depth,
                static_cast<Value *>(scratch));
            for (int row = chunk; row < end; row += chunks.rows_per_block) {
                const int n_rows = smaller(chunks.rows_per_block, end - row);
                block.multiply(n_rows, line_of<Number>(input, row, 0), chunks.rows_per_block, n_lines, panel, sums,
                               COLUMNS);
                finish<Number, COLUMNS>(product, row, n_rows, index * COLUMNS, sums);
            }
        }
    }
}

template <typename Block>
size_t multiply_scratch(int depth) {
    return sizeof(typename Block::Value) * Block::COLUMNS * depth;
}

}  // namespace
}  // namespace embellama::encoder
