// SPDX-License-Identifier: Apache-2.0
// Attention on tile registers, of queries, keys and values that lie in tiles: queries are loaded as they
// are, keys and values are rearranged in vector registers. The rest is left to attention.hpp.
#pragma once

#include <immintrin.h>

#include "../kernels.hpp"
#include "attention.hpp"
#include "float16_vectors.hpp"
#include "tile_block.hpp"
#include "tiles.hpp"

namespace embellama::encoder {
namespace {

// Transposes 16 rows of 16 words: pairs, then quads of words within each 128 bits, then the 128 bits.
EMBELLAMA_INLINE void transpose_words(__m512i (&rows)[16]) {
    __m512i other[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        other[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        other[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        rows[i] = _mm512_unpacklo_epi64(other[i], other[i + 2]);
        rows[i + 1] = _mm512_unpackhi_epi64(other[i], other[i + 2]);
        rows[i + 2] = _mm512_unpacklo_epi64(other[i + 1], other[i + 3]);
        rows[i + 3] = _mm512_unpackhi_epi64(other[i + 1], other[i + 3]);
    }
    constexpr int EVEN = 0x88, ODD = 0xdd;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        other[i] = _mm512_shuffle_i32x4(rows[i], rows[i + 4], EVEN);
        other[i + 4] = _mm512_shuffle_i32x4(rows[i], rows[i + 4], ODD);
        other[i + 8] = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], EVEN);
        other[i + 12] = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], ODD);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        rows[i] = _mm512_shuffle_i32x4(other[i], other[i + 8], EVEN);
        rows[i + 4] = _mm512_shuffle_i32x4(other[i + 4], other[i + 12], EVEN);
        rows[i + 8] = _mm512_shuffle_i32x4(other[i], other[i + 8], ODD);
        rows[i + 12] = _mm512_shuffle_i32x4(other[i + 4], other[i + 12], ODD);
    }
}

// One head of one text. In tiles of 1 KB lie
//     keys     [key / 16][value / 32]: transposed, so that a line holds a word of 16 keys
//     values   [key / 32][column / 16]: a line holds the words of two keys for 16 columns
//     weights  [key / 32], of a block of 16 queries
class TileHead {
    static constexpr int ROWS = TileBlock::ROWS;
    static constexpr int LINE = Bfloat16::VALUES_PER_LINE;
    static constexpr int TILE = ROWS * LINE;

public:
    TileHead(const Attention & attention, int first_row, int n_rows, int head, void * memory)
        : attention(attention),
          first_row(first_row),
          n_rows(n_rows),
          head(head),
          n_lines(attention.head_size / LINE),
          n_key_tiles((n_rows + ROWS - 1) / ROWS),
          n_key_lines((n_rows + LINE - 1) / LINE) {
        const AttentionScratch<TileBlock> scratch(n_rows, attention.head_size);
        char * base = static_cast<char *>(memory);
        keys = reinterpret_cast<uint16_t *>(base + scratch.keys);
        values = reinterpret_cast<uint16_t *>(base + scratch.values);
        scores = reinterpret_cast<float *>(base + scratch.scores);
        weights = reinterpret_cast<uint16_t *>(base + scratch.weights);
        scores_per_row = scratch.n_keys;
    }

    void compute() {
        pack_keys();
        pack_values();
        const int last_query = smaller(attention.last_query, n_rows);
        for (int row = attention.first_query; row < last_query; row += ROWS) {
            score(row);
            const int n = smaller(ROWS, last_query - row);
            for (int i = 0; i < n; i++) {
                factors[i] = softmax(i);
            }
            weigh_values(first_row + row, n);
        }
    }

private:
    // A line of a row; those of the next rows follow.
    EMBELLAMA_INLINE_MEMBER const uint16_t * line_in(const Heads & heads, int row, int line) const {
        return line_of<Bfloat16>(heads.tiles, first_row + row, head * attention.head_size + line * LINE);
    }

    EMBELLAMA_INLINE_MEMBER void pack_keys() {
        uint16_t * tile = keys;
        for (int key = 0; key < n_rows; key += ROWS) {
            for (int line = 0; line < n_lines; line++, tile += TILE) {
                const uint16_t * source = line_in(attention.key, key, line);
                __m512i rows[ROWS];
#pragma GCC unroll 16
                for (int i = 0; i < ROWS; i++) {
                    rows[i] = key + i < n_rows ? _mm512_load_si512(source + i * LINE) : _mm512_setzero_si512();
                }
                transpose_words(rows);
#pragma GCC unroll 16
                for (int i = 0; i < ROWS; i++) {
                    _mm512_store_si512(tile + i * LINE, rows[i]);
                }
            }
        }
    }

    // Values of keys that do not exist are zeros, because 0 times NaN would be NaN.
    EMBELLAMA_INLINE_MEMBER void pack_values() {
        alignas(64) static constexpr uint16_t INTERLEAVED[LINE] = {0,  32, 1,  33, 2,  34, 3,  35, 4,  36, 5,
                                                                   37, 6,  38, 7,  39, 8,  40, 9,  41, 10, 42,
                                                                   11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
        const __m512i low = _mm512_load_si512(INTERLEAVED), high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
        uint16_t * tile = values;
        for (int key = 0; key < n_rows; key += LINE) {
            for (int line = 0; line < n_lines; line++, tile += 2 * TILE) {
                const uint16_t * source = line_in(attention.value, key, line);
                for (int i = 0; i < ROWS; i++, source += 2 * LINE) {
                    const int first = key + 2 * i;
                    const __m512i zero = _mm512_setzero_si512();
                    const __m512i even = first < n_rows ? _mm512_load_si512(source) : zero;
                    const __m512i odd = first + 1 < n_rows ? _mm512_load_si512(source + LINE) : zero;
                    _mm512_store_si512(tile + i * LINE, _mm512_permutex2var_epi16(even, low, odd));
                    _mm512_store_si512(tile + TILE + i * LINE, _mm512_permutex2var_epi16(even, high, odd));
                }
            }
        }
    }

    // Four tiles of keys at a time share the loads of the queries. The 16 lines from a query on may end
    // with those of other texts: a line of a product depends on its own line only.
    EMBELLAMA_INLINE_MEMBER void score(int row) {
        const uint16_t * queries = line_in(attention.query, row, 0);
        const size_t to_next_line = static_cast<size_t>(attention.query.tiles.rows_per_block) * LINE;
        const size_t stride = scores_per_row * sizeof(float), tiles_of_keys = static_cast<size_t>(n_lines) * TILE;
        memory_barrier();
        int tile = 0;
        for (; tile + 4 <= n_key_tiles; tile += 4) {
            const uint16_t * key = keys + tile * tiles_of_keys;
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
            for (int line = 0; line < n_lines; line++, key += TILE) {
                _tile_loadd(4, queries + line * to_next_line, 64);
                _tile_loadd(6, key, 64);
                _tile_dpbf16ps(0, 4, 6);
                _tile_loadd(7, key + tiles_of_keys, 64);
                _tile_dpbf16ps(1, 4, 7);
                _tile_loadd(6, key + 2 * tiles_of_keys, 64);
                _tile_dpbf16ps(2, 4, 6);
                _tile_loadd(7, key + 3 * tiles_of_keys, 64);
                _tile_dpbf16ps(3, 4, 7);
            }
            float * target = scores + tile * ROWS;
            _tile_stored(0, target, stride);
            _tile_stored(1, target + ROWS, stride);
            _tile_stored(2, target + 2 * ROWS, stride);
            _tile_stored(3, target + 3 * ROWS, stride);
        }
        for (; tile < n_key_tiles; tile++) {
            const uint16_t * key = keys + tile * tiles_of_keys;
            _tile_zero(0);
            for (int line = 0; line < n_lines; line++, key += TILE) {
                _tile_loadd(4, queries + line * to_next_line, 64);
                _tile_loadd(6, key, 64);
                _tile_dpbf16ps(0, 4, 6);
            }
            _tile_stored(0, scores + tile * ROWS, stride);
        }
        memory_barrier();
    }

    // The scores of the last keys, up to 32; those of keys that do not exist are -1e30.
    EMBELLAMA_INLINE_MEMBER FloatPair scores_of(const float * row, int key) const {
        const uint32_t exist = (1u << (n_rows - key)) - 1;
        const __m512 none = _mm512_set1_ps(-1e30f);
        return {(Floats)_mm512_mask_loadu_ps(none, static_cast<__mmask16>(exist), row + key),
                (Floats)_mm512_mask_loadu_ps(none, static_cast<__mmask16>(exist >> 16), row + key + 16)};
    }

    // Calls `use` with the number of the first key and the scores of each 32 keys of a query.
    template <typename Use>
    EMBELLAMA_INLINE_MEMBER void for_scores(const float * row, Use use) const {
        int key = 0;
        for (; key + LINE <= n_rows; key += LINE) {
            use(key, load_pair(row + key));
        }
        if (key < n_rows) {
            use(key, scores_of(row, key));
        }
    }

    // Writes 2**(scale * (score - largest score)) of a query into its line of the weights, and
    // returns 1 / sum.
    EMBELLAMA_INLINE_MEMBER float softmax(int query) {
        const float * row = scores + static_cast<size_t>(query) * scores_per_row;
        __m512 highest = _mm512_set1_ps(-1e30f);
        // VMAXPS drops a NaN; this sum keeps it.
        Floats poison{};
        for_scores(row, [&](int, FloatPair x) __attribute__((always_inline)) {
            highest = _mm512_max_ps(highest, _mm512_max_ps((__m512)x.low, (__m512)x.high));
            poison += (x.low + x.high) * splat(0.0f);
        });
        const Floats factor = splat(attention.scale * LOG2_E);
        const Floats top = splat(largest_of((Floats)highest)) * factor;
        Floats sum = poison;
        for_scores(row, [&](int key, FloatPair x) __attribute__((always_inline)) {
            const __m512h exponents = narrow_pair({x.low * factor - top, x.high * factor - top});
            // 2**-32 is 0 in float16.
            const FloatPair e = widen_pair(power_of_two(_mm512_max_ph(exponents, splat_half(-32.0f))));
            sum += e.low + e.high;
            store_bfloat16(weights + static_cast<size_t>(key) * ROWS + query * LINE, e);
        });
        return 1.0f / sum_of(sum);
    }

    EMBELLAMA_INLINE_MEMBER void weigh_values(int target, int n) {
        alignas(64) float sums[ROWS * TileBlock::COLUMNS];
        for (int line = 0; line < n_lines; line++) {
            const uint16_t * value = values + static_cast<size_t>(line) * 2 * TILE;
            memory_barrier();
            _tile_zero(0);
            _tile_zero(1);
            for (int key_line = 0; key_line < n_key_lines; key_line++) {
                _tile_loadd(4, weights + static_cast<size_t>(key_line) * TILE, 64);
                _tile_loadd(6, value, 64);
                _tile_dpbf16ps(0, 4, 6);
                _tile_loadd(7, value + TILE, 64);
                _tile_dpbf16ps(1, 4, 7);
                value += static_cast<size_t>(n_lines) * 2 * TILE;
            }
            _tile_stored(0, sums, TileBlock::COLUMNS * sizeof(float));
            _tile_stored(1, sums + 16, TileBlock::COLUMNS * sizeof(float));
            memory_barrier();
            const int column = head * attention.head_size + line * LINE;
            for (int i = 0; i < n; i++) {
                FloatPair x = load_pair(sums + i * TileBlock::COLUMNS);
                x = {x.low * splat(factors[i]), x.high * splat(factors[i])};
                if (attention.rows) {
                    float * row = attention.rows + (target + i) * attention.row_stride + column;
                    store(row, x.low);
                    store(row + 16, x.high);
                } else {
                    store_bfloat16(line_of<Bfloat16>(attention.tiles, target + i, column), x);
                }
            }
        }
    }

    const Attention & attention;
    const int first_row;
    const int n_rows;
    const int head;
    const int n_lines;  // of a query, a key or a value
    const int n_key_tiles;
    const int n_key_lines;  // keys as the depth of the second product
    int scores_per_row;
    uint16_t * keys;
    uint16_t * values;
    float * scores;
    uint16_t * weights;
    float factors[ROWS];
};

void attend_tiles(const Attention & attention, int first_row, int n_rows, int head, void * memory) {
    if (!attention.query.tiles.data) {
        return attend<TileBlock>(attention, first_row, n_rows, head, memory);
    }
    configure_tiles(TileBlock::ROWS);
    TileHead(attention, first_row, n_rows, head, memory).compute();
}

}  // namespace
}  // namespace embellama::encoder
