// SPDX-License-Identifier: Apache-2.0
// Attention of one head of one text. Keys and values are packed into panels, and blocks of queries
// are multiplied with them like the rows of a product.
#pragma once

#include "../kernels.hpp"
#include "product.hpp"
#include "simd.hpp"
#include "tiles.hpp"

namespace embellama::encoder {
namespace {

// Where the parts of the scratch memory begin, in bytes.
template <typename Block>
struct AttentionScratch {
    size_t keys, values, queries, scores, weights, size;
    int depth;      // head_size, up to a whole line
    int n_keys;     // up to a whole panel
    int key_depth;  // keys as the depth of the second product, up to a whole line

    AttentionScratch(int n_rows, int head_size) {
        using Number = typename Block::Number;
        constexpr size_t VALUE = sizeof(typename Block::Value);
        constexpr int ROWS = Block::ROWS;
        constexpr int COLUMNS = Block::COLUMNS;
        depth = rounded_up(head_size, Number::VALUES_PER_LINE);
        key_depth = rounded_up(n_rows, Number::VALUES_PER_LINE);
        n_keys = rounded_up(key_depth, COLUMNS);
        keys = 0;
        values = keys + VALUE * n_keys * depth;
        queries = values + VALUE * key_depth * rounded_up(head_size, COLUMNS);
        scores = queries + VALUE * ROWS * depth;
        weights = scores + sizeof(float) * ROWS * n_keys;
        size = weights + VALUE * ROWS * key_depth;
    }
};

// Writes 2**(scale * (score - largest score)) of the first n scores of a row into a row of tiles,
// and returns 1 / sum.
template <typename Number>
EMBELLAMA_INLINE float softmax(float * scores, int n, int key_depth, float scale, typename Number::Value * line,
                               int rows) {
    for (int i = n; i < key_depth; i++) {
        scores[i] = -1e30f;
    }
    Floats highest = load(scores);
    // maximum() drops a NaN; this sum keeps it.
    Floats poison{};
    for (int i = 0; i < key_depth; i += WIDTH) {
        const Floats x = load(scores + i);
        highest = maximum(highest, x);
        poison += x * splat(0.0f);
    }
    const Floats factor = splat(scale);
    const Floats top = splat(largest_of(highest)) * factor;
    Floats sum = poison;
    for (int i = 0; i < key_depth; i += Number::VALUES_PER_LINE) {
        for (int j = i; j < i + Number::VALUES_PER_LINE; j += WIDTH) {
            const Floats x = Number::exponential(load(scores + j) * factor - top);
            sum += x;
            store(scores + j, x);
        }
        Number::store_line(line, scores + i);
        line += rows * Number::VALUES_PER_LINE;
    }
    return 1.0f / sum_of(sum);
}

// One head of one text.
template <typename Block>
class Head {
    using Number = typename Block::Number;
    using Value = typename Block::Value;
    static constexpr int ROWS = Block::ROWS;
    static constexpr int COLUMNS = Block::COLUMNS;
    static constexpr int LINE = Number::VALUES_PER_LINE;

public:
    EMBELLAMA_INLINE_MEMBER Head(const Attention & attention, int first_row, int n_rows, int head, void * memory)
        : attention(attention),
          scratch(n_rows, attention.head_size),
          first_row(first_row),
          n_rows(n_rows),
          head(head),
          rows_per_block(smaller(ROWS, n_rows)),
          block(rows_per_block) {
        char * base = static_cast<char *>(memory);
        keys = reinterpret_cast<Value *>(base + scratch.keys);
        values = reinterpret_cast<Value *>(base + scratch.values);
        queries = reinterpret_cast<Value *>(base + scratch.queries);
        scores = reinterpret_cast<float *>(base + scratch.scores);
        weights = reinterpret_cast<Value *>(base + scratch.weights);
    }

    EMBELLAMA_INLINE_MEMBER void compute() {
        pack_keys();
        pack_values();
        const int last_query = smaller(attention.last_query, n_rows);
        for (int row = attention.first_query; row < last_query; row += rows_per_block) {
            const int n = smaller(rows_per_block, last_query - row);
            store_queries(row, n);
            score(n);
            weigh_values(row, n);
        }
    }

private:
    EMBELLAMA_INLINE_MEMBER const float * row_of(const Heads & heads, int row) const {
        return heads.data + (first_row + row) * heads.row_stride + head * heads.head_stride;
    }

    // A key is a column of the first product.
    EMBELLAMA_INLINE_MEMBER void pack_keys() {
        for (int key = 0; key < n_rows; key += COLUMNS) {
            transpose_into_panel<Number, COLUMNS>(row_of(attention.key, key), attention.key.row_stride,
                                                  smaller(COLUMNS, n_rows - key), attention.head_size,
                                                  keys + static_cast<size_t>(key) * scratch.depth);
        }
    }

    // A value is a row of the second product's depth; rows beyond the last one are zeros.
    EMBELLAMA_INLINE_MEMBER void pack_values() {
        alignas(64) static constexpr float ZEROS[COLUMNS] = {};
        for (int column = 0; column < attention.head_size; column += COLUMNS) {
            const int n_columns = smaller(COLUMNS, attention.head_size - column);
            Value * words = values + static_cast<size_t>(column) * scratch.key_depth;
            for (int key = 0; key < scratch.key_depth; key += Number::VALUES_PER_WORD) {
                const float * rows[2] = {ZEROS, ZEROS};
                for (int i = 0; i < Number::VALUES_PER_WORD; i++) {
                    if (key + i < n_rows) {
                        rows[i] = row_of(attention.value, key + i) + column;
                    }
                }
                Number::interleave(rows[0], rows[1], words, n_columns);
                memset(words + n_columns * Number::VALUES_PER_WORD, 0,
                       (COLUMNS - n_columns) * Number::VALUES_PER_WORD * sizeof(Value));
                words += COLUMNS * Number::VALUES_PER_WORD;
            }
        }
    }

    EMBELLAMA_INLINE_MEMBER void store_queries(int row, int n) {
        const Tiles tiles{queries, n, rows_per_block, scratch.depth};
        float padded[MAX_HEAD_SIZE + LINE] = {};
        for (int i = 0; i < n; i++) {
            const float * source = row_of(attention.query, row + i);
            if (scratch.depth > attention.head_size) {
                memcpy(padded, source, attention.head_size * sizeof(float));
                source = padded;
            }
            store_tile_row<Number>(tiles, i, source);
        }
    }

    // The weights of the values for a block of queries, each row still to be multiplied with its factor.
    EMBELLAMA_INLINE_MEMBER void score(int n) {
        for (int key = 0; key < n_rows; key += COLUMNS) {
            block.multiply(n, queries, rows_per_block, scratch.depth / LINE,
                           keys + static_cast<size_t>(key) * scratch.depth, scores + key, scratch.n_keys);
        }
        for (int i = 0; i < n; i++) {
            factors[i] = softmax<Number>(scores + i * scratch.n_keys, n_rows, scratch.key_depth,
                                         attention.scale * LOG2_E, weights + i * LINE, rows_per_block);
        }
    }

    EMBELLAMA_INLINE_MEMBER void weigh_values(int row, int n) {
        for (int column = 0; column < attention.head_size; column += COLUMNS) {
            block.multiply(n, weights, rows_per_block, scratch.key_depth / LINE,
                           values + static_cast<size_t>(column) * scratch.key_depth, sums, COLUMNS);
            const int n_columns = smaller(COLUMNS, attention.head_size - column);
            for (int i = 0; i < n; i++) {
                float * result = sums + i * COLUMNS;
                for (int j = 0; j < COLUMNS; j += WIDTH) {
                    store(result + j, load(result + j) * splat(factors[i]));
                }
                write(first_row + row + i, head * attention.head_size + column, result, n_columns);
            }
        }
    }

    EMBELLAMA_INLINE_MEMBER void write(int target, int column, const float * result, int n_columns) {
        if (attention.rows) {
            memcpy(attention.rows + target * attention.row_stride + column, result, n_columns * sizeof(float));
            return;
        }
        for (int j = 0; j < n_columns; j += LINE) {
            Number::store_line(line_of<Number>(attention.tiles, target, column + j), result + j);
        }
    }

    const Attention & attention;
    const AttentionScratch<Block> scratch;
    const int first_row;
    const int n_rows;
    const int head;
    const int rows_per_block;
    Block block;
    Value * keys;
    Value * values;
    Value * queries;
    float * scores;
    Value * weights;
    alignas(64) float sums[ROWS * COLUMNS];
    float factors[ROWS];
};

template <typename Block>
void attend(const Attention & attention, int first_row, int n_rows, int head, void * memory) {
    Head<Block>(attention, first_row, n_rows, head, memory).compute();
}

template <typename Block>
size_t attend_scratch(int n_rows, int head_size) {
    return AttentionScratch<Block>(n_rows, head_size).size;
}

}  // namespace
}  // namespace embellama::encoder
