// SPDX-License-Identifier: Apache-2.0
// Tiles times panels, fused with bias, activation and residual.
#pragma once

#include "../kernels.hpp"
#include "simd.hpp"
#include "tiles.hpp"

namespace embellama::encoder {
namespace {

// Bytes of input tiles that stay in the second-level cache while all panels are read.
constexpr size_t CHUNK_BYTES = 384 * 1024;

// Panels in 16 or 8 bits must be widened. Up to this many blocks of rows, each block widens the
// panel again in registers, in time that it would wait for products. For more blocks, the widened
// words are stored first. That takes as long as some ten rows, because the words evict other data
// from the first-level cache. Without instructions that widen, the words are always stored.
constexpr int MOST_WIDENINGS = WIDTH > 4 ? 8 : 0;

// How far ahead of the multiplications weights are fetched, in bytes. Panels follow each other in memory,
// but the hardware fetches nothing ahead beyond a page of 4 KB. On Zen 4, this makes texts of 5 to 30
// tokens 1.04 to 1.2 times as fast; 6 and 24 KB gain less. The generic kernels gain nothing.
constexpr size_t FETCHED_AHEAD = WIDTH > 4 ? 12 * 1024 : 0;

template <int COLUMNS>
constexpr size_t panel_bytes(int depth, WeightFormat format) {
    const size_t n = static_cast<size_t>(depth) * COLUMNS;
    return format == WeightFormat::FLOAT32 ? 4 * n : format == WeightFormat::INT8 ? n + n / 32 * sizeof(float) : 2 * n;
}

// Computes the sums of ROWS rows and all columns of a panel, which stay in registers for the whole
// depth. Fetches what lies `ahead` bytes after each word of the panel.
template <typename Number, int ROWS, int COLUMNS, WeightFormat FORMAT>
__attribute__((noinline)) void multiply_block(const typename Number::Value * tile, int rows_per_block, int n_lines,
                                              const void * panel, size_t ahead, float * sums, int stride) {
    constexpr int VECTORS = COLUMNS / WIDTH;
    constexpr int LINE = Number::VALUES_PER_LINE;
    constexpr int STEP = Number::VALUES_PER_WORD;
    constexpr size_t BYTES = panel_bytes<COLUMNS>(LINE, FORMAT) / 16;
    const char * fetched = static_cast<const char *>(panel) + ahead;
    Floats sum[ROWS][VECTORS] = {};
    for (int line = 0; line < n_lines; line++) {
        const typename Number::template PanelLine<FORMAT, COLUMNS> words(panel, line);
        for (int i = 0; i < 16; i++, fetched += BYTES) {
            for (size_t at = 0; ahead > 0 && at < BYTES; at += 64) {
                __builtin_prefetch(fetched + at);
            }
            decltype(words.load(0, 0)) columns[VECTORS];
#pragma GCC unroll 4
            for (int vector = 0; vector < VECTORS; vector++) {
                columns[vector] = words.load(i, vector * WIDTH);
            }
#pragma GCC unroll 16
            for (int row = 0; row < ROWS; row++) {
#pragma GCC unroll 4
                for (int vector = 0; vector < VECTORS; vector++) {
                    sum[row][vector] =
                        Number::multiply_add(sum[row][vector], tile + row * LINE + i * STEP, columns[vector]);
                }
            }
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

    // AMX's block configures its registers for blocks of `rows_per_block` rows.
    explicit Registers(int) {}

    // Multiplies the first n_rows rows of a block; the sums of two rows are `stride` apart.
    EMBELLAMA_INLINE void multiply(int n_rows, const Value * tile, int rows_per_block, int n_lines, const Value * panel,
                                   float * sums, int stride) {
        multiply_rows<ROWS, Number::WORDS>(n_rows, tile, rows_per_block, n_lines, panel, 0, sums, stride);
    }

    // The same with a panel of weights, after which others follow.
    template <WeightFormat FORMAT>
    EMBELLAMA_INLINE void multiply_weights(int n_rows, const Value * tile, int rows_per_block, int n_lines,
                                           const void * panel, size_t ahead, float * sums, int stride) {
        multiply_rows<ROWS, FORMAT>(n_rows, tile, rows_per_block, n_lines, panel, ahead, sums, stride);
    }

private:
    template <int MOST, WeightFormat FORMAT>
    EMBELLAMA_INLINE void multiply_rows(int n_rows, const Value * tile, int rows_per_block, int n_lines,
                                        const void * panel, size_t ahead, float * sums, int stride) {
        if constexpr (MOST > 1) {
            if (n_rows < MOST) {
                return multiply_rows<MOST - 1, FORMAT>(n_rows, tile, rows_per_block, n_lines, panel, ahead, sums,
                                                       stride);
            }
        }
        multiply_block<Number, MOST, COLUMNS, FORMAT>(tile, rows_per_block, n_lines, panel, ahead, sums, stride);
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

// Converts a panel of another format to words.
template <typename Number, int COLUMNS, WeightFormat FORMAT>
EMBELLAMA_INLINE void widen_panel(const void * panel, int n_lines, typename Number::Value * target) {
    for (int line = 0; line < n_lines; line++) {
        const typename Number::template PanelLine<FORMAT, COLUMNS> words(panel, line);
        for (int i = 0; i < 16 * COLUMNS; i += COLUMNS, target += COLUMNS) {
            for (int column = 0; column < COLUMNS; column += WIDTH) {
                store(target + column, words.load(i / COLUMNS, column));
            }
        }
    }
}

template <typename Block, WeightFormat FORMAT>
EMBELLAMA_INLINE void multiply_format(const Product & product, int first_panel, int last_panel, void * scratch) {
    using Number = typename Block::Number;
    using Value = typename Block::Value;
    constexpr int COLUMNS = Block::COLUMNS;
    const Tiles & input = product.input;
    const Weights & weights = product.weights;
    const size_t bytes_per_panel = panel_bytes<COLUMNS>(weights.depth, FORMAT);
    const int n_lines = weights.depth / Number::VALUES_PER_LINE;
    const Chunks<Number> chunks(input);
    Block block(chunks.rows_per_block);
    alignas(64) float sums[Block::ROWS * COLUMNS];
    for (int chunk = 0; chunk < input.n_rows; chunk += chunks.rows_per_chunk) {
        const int end = smaller(chunk + chunks.rows_per_chunk, input.n_rows);
        const bool widened = FORMAT != Number::WORDS && end - chunk > MOST_WIDENINGS * chunks.rows_per_block;
        for (int index = first_panel; index < last_panel; index++) {
            const void * panel = static_cast<const char *>(weights.panels) + index * bytes_per_panel;
            if constexpr (FORMAT != Number::WORDS) {
                if (widened) {
                    widen_panel<Number, COLUMNS, FORMAT>(panel, n_lines, static_cast<Value *>(scratch));
                    panel = scratch;
                }
            }
            for (int row = chunk; row < end; row += chunks.rows_per_block) {
                const int n_rows = smaller(chunks.rows_per_block, end - row);
                const Value * tile = line_of<Number>(input, row, 0);
                if (widened) {
                    block.multiply(n_rows, tile, chunks.rows_per_block, n_lines, static_cast<const Value *>(panel),
                                   sums, COLUMNS);
                } else {
                    block.template multiply_weights<FORMAT>(n_rows, tile, chunks.rows_per_block, n_lines, panel,
                                                            row == chunk ? FETCHED_AHEAD : 0, sums, COLUMNS);
                }
                finish<Number, COLUMNS>(product, row, n_rows, index * COLUMNS, sums);
            }
        }
    }
}

template <typename Block>
void multiply(const Product & product, int first_panel, int last_panel, void * scratch) {
    if constexpr (Block::Number::WORDS == WeightFormat::FLOAT32) {
        switch (product.weights.format) {
            case WeightFormat::FLOAT32:
                break;
            case WeightFormat::FLOAT16:
                return multiply_format<Block, WeightFormat::FLOAT16>(product, first_panel, last_panel, scratch);
            case WeightFormat::BFLOAT16:
                return multiply_format<Block, WeightFormat::BFLOAT16>(product, first_panel, last_panel, scratch);
            case WeightFormat::INT8:
                return multiply_format<Block, WeightFormat::INT8>(product, first_panel, last_panel, scratch);
        }
    }
    multiply_format<Block, Block::Number::WORDS>(product, first_panel, last_panel, scratch);
}

template <typename Block>
size_t multiply_scratch(int depth) {
    return sizeof(typename Block::Value) * Block::COLUMNS * depth;
}

}  // namespace
}  // namespace embellama::encoder
