// SPDX-License-Identifier: Apache-2.0
// Products on tile registers, two blocks of rows at a time. While tiles multiply, the vector units
// are idle: meanwhile they add bias and residual, compute the activation and convert the sums of the
// blocks before, and the next panel is fetched into the second-level cache.
#pragma once

#include "../kernels.hpp"
#include "float16_vectors.hpp"
#include "product.hpp"
#include "tile_block.hpp"
#include "tiles.hpp"

namespace embellama::encoder {
namespace {

// Rows of a panel whose sums are complete and not finished yet.
struct Unfinished {
    const float * sums = nullptr;  // [n_rows][TileBlock::COLUMNS]
    int row = 0;
    int n_rows = 0;
    int column = 0;
    // Where the row goes in the tiles, and how many rows its block has from there on.
    uint16_t * line = nullptr;
    int rows_in_block = 0;
};

template <Activation ACTIVATION, bool RESIDUAL, bool TO_TILES>
EMBELLAMA_INLINE void finish_rows(const Product & product, Unfinished & left, int most) {
    const int n = smaller(most, left.n_rows);
    const FloatPair bias = product.bias ? load_pair(product.bias + left.column) : FloatPair{};
    for (int end = left.row + n; left.row < end; left.row++) {
        FloatPair x = load_pair(left.sums);
        x = {x.low + bias.low, x.high + bias.high};
        if constexpr (ACTIVATION == Activation::GELU_ERF) {
            x = {Bfloat16::gelu(x.low), Bfloat16::gelu(x.high)};
        } else if constexpr (ACTIVATION == Activation::GELU_TANH) {
            x = {gelu_tanh(x.low), gelu_tanh(x.high)};
        }
        const size_t at = static_cast<size_t>(left.row) * product.weights.n_columns + left.column;
        if constexpr (RESIDUAL) {
            const FloatPair residual = load_pair(product.residual + at);
            x = {x.low + residual.low, x.high + residual.high};
        }
        if constexpr (TO_TILES) {
            if (left.rows_in_block == 0) {
                left.line = line_of<Bfloat16>(product.tiles, left.row, left.column);
                left.rows_in_block = product.tiles.rows_per_block - left.row % product.tiles.rows_per_block;
            }
            store_bfloat16(left.line, x);
            left.line += Bfloat16::VALUES_PER_LINE;
            left.rows_in_block--;
        } else {
            store(product.rows + at, x.low);
            store(product.rows + at + 16, x.high);
        }
        left.sums += TileBlock::COLUMNS;
    }
    left.n_rows -= n;
}

// Rows are read past the first-level cache, because they would evict the panel from it. Tiles 0 to 3
// hold sums, 4 and 5 rows, and 6 and 7 halves of the panel, which two blocks share.
template <int BLOCKS, typename Meanwhile>
EMBELLAMA_INLINE void multiply_blocks(const uint16_t * tile, int rows_per_block, int n_lines, const uint16_t * panel,
                                      float * sums, Meanwhile meanwhile) {
    constexpr int COLUMNS = TileBlock::COLUMNS;
    const int line_size = rows_per_block * Bfloat16::VALUES_PER_LINE;
    const uint16_t * second = tile + static_cast<size_t>(line_size) * n_lines;
    memory_barrier();
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (BLOCKS == 2) {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int line = 0; line < n_lines; line++) {
        _tile_stream_loadd(4, tile, 64);
        _tile_loadd(6, panel, 128);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, panel + 32, 128);
        _tile_dpbf16ps(1, 4, 7);
        if constexpr (BLOCKS == 2) {
            _tile_stream_loadd(5, second, 64);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        tile += line_size;
        second += line_size;
        panel += 16 * COLUMNS * 2;
        meanwhile();
    }
    _tile_stored(0, sums, COLUMNS * sizeof(float));
    _tile_stored(1, sums + 16, COLUMNS * sizeof(float));
    if constexpr (BLOCKS == 2) {
        float * lower = sums + rows_per_block * COLUMNS;
        _tile_stored(2, lower, COLUMNS * sizeof(float));
        _tile_stored(3, lower + 16, COLUMNS * sizeof(float));
    }
    memory_barrier();
}

template <Activation ACTIVATION, bool RESIDUAL, bool TO_TILES>
void multiply_on_tiles(const Product & product, int first_panel, int last_panel) {
    // A line of a panel has this many cache lines of 64 bytes.
    constexpr int CACHE_LINES = 32;
    const Tiles & input = product.input;
    const int n_lines = product.weights.depth / Bfloat16::VALUES_PER_LINE;
    const size_t values_per_panel = static_cast<size_t>(product.weights.depth) * TileBlock::COLUMNS;
    const uint16_t * panels = static_cast<const uint16_t *>(product.weights.panels);
    const Chunks<Bfloat16> chunks(input);
    const int rows_per_block = chunks.rows_per_block, rows_per_pair = 2 * rows_per_block;
    configure_tiles(rows_per_block);
    alignas(64) float sums[2][2 * TileBlock::ROWS * TileBlock::COLUMNS];
    Unfinished left;
    int pending = 0;
    for (int chunk = 0; chunk < input.n_rows; chunk += chunks.rows_per_chunk) {
        const int end = smaller(chunk + chunks.rows_per_chunk, input.n_rows);
        const int n_pairs = (end - chunk + rows_per_pair - 1) / rows_per_pair;
        for (int index = first_panel; index < last_panel; index++) {
            const uint16_t * panel = panels + index * values_per_panel;
            // After the last panel of a matrix lie the weights that are often needed next.
            const uint16_t * next = panel + values_per_panel;
            for (int pair = 0; pair < n_pairs; pair++) {
                const int first = chunk + pair * rows_per_pair;
                const int per_line = (left.n_rows + n_lines - 1) / n_lines;
                // Each pair of blocks fetches its share of each line: memory is read evenly.
                const int begin = CACHE_LINES * pair / n_pairs, share = CACHE_LINES * (pair + 1) / n_pairs - begin;
                const char * fetched = reinterpret_cast<const char *>(next) + 64 * begin;
                const auto meanwhile = [&]() __attribute__((always_inline)) {
                    for (int i = 0; i < share; i++) {
                        _mm_prefetch(fetched + 64 * i, _MM_HINT_T1);
                    }
                    fetched += 64 * CACHE_LINES;
                    finish_rows<ACTIVATION, RESIDUAL, TO_TILES>(product, left, per_line);
                };
                pending = 1 - pending;
                const uint16_t * tile = line_of<Bfloat16>(input, first, 0);
                if (end - first > rows_per_block) {
                    multiply_blocks<2>(tile, rows_per_block, n_lines, panel, sums[pending], meanwhile);
                } else {
                    multiply_blocks<1>(tile, rows_per_block, n_lines, panel, sums[pending], meanwhile);
                }
                left = {sums[pending], first, smaller(rows_per_pair, end - first), index * TileBlock::COLUMNS,
                        nullptr,       0};
            }
        }
    }
    finish_rows<ACTIVATION, RESIDUAL, TO_TILES>(product, left, left.n_rows);
}

template <Activation ACTIVATION>
void multiply_activated(const Product & product, int first_panel, int last_panel) {
    if (product.residual) {
        return product.rows ? multiply_on_tiles<ACTIVATION, true, false>(product, first_panel, last_panel)
                            : multiply_on_tiles<ACTIVATION, true, true>(product, first_panel, last_panel);
    }
    return product.rows ? multiply_on_tiles<ACTIVATION, false, false>(product, first_panel, last_panel)
                        : multiply_on_tiles<ACTIVATION, false, true>(product, first_panel, last_panel);
}

void multiply_tiles(const Product & product, int first_panel, int last_panel, void *) {
    switch (product.activation) {
        case Activation::NONE:
            return multiply_activated<Activation::NONE>(product, first_panel, last_panel);
        case Activation::GELU_ERF:
            return multiply_activated<Activation::GELU_ERF>(product, first_panel, last_panel);
        case Activation::GELU_TANH:
            return multiply_activated<Activation::GELU_TANH>(product, first_panel, last_panel);
    }
}

}  // namespace
}  // namespace embellama::encoder
