// SPDX-License-Identifier: Apache-2.0
// The kernels of an instruction set: one table of functions, with the same members for all sets.
//
// Activations that a product reads lie in *tiles*: blocks of `rows_per_block` rows. Each block is a
// sequence of 64-byte lines: the first line of each of its rows, then the second line of each, and
// so on.
//     [row / rows_per_block][value / line][row % rows_per_block][value % line]
// A kernel thus reads memory in one direction, whatever the sizes are.
//
// Weights lie in *panels* of `columns_per_panel` outputs. Each panel is a sequence of 32-bit words
// (one float32, or two bfloat16 that are neighbours along the depth):
//     [column / columns_per_panel][depth word][column % columns_per_panel]
#pragma once

#include <cstddef>
#include <cstdint>

namespace embellama::encoder {

// Every depth and every number of columns is a multiple of this: two lines of float32, one of
// bfloat16.
constexpr int GRANULE = 32;

constexpr int MAX_HEAD_SIZE = 256;

// INT8 has a float32 scale for every 32 values of a column. For every 32 of its depth, such a panel
// holds the scales of its columns, and then 32 lines with one byte for each column.
enum class WeightFormat : int32_t { FLOAT32, FLOAT16, BFLOAT16, INT8 };

enum class Activation : int32_t { NONE, GELU_ERF, GELU_TANH };

struct Tiles {
    void * data;
    int n_rows;
    int rows_per_block;
    int depth;
};

struct Weights {
    const void * panels;
    WeightFormat format;
    int depth;
    int n_columns;
};

// activation(input * weights + bias) + residual, into `rows` or into `tiles`.
struct Product {
    Tiles input;
    Weights weights;
    const float * bias;  // [n_columns] or null
    Activation activation;
    const float * residual;  // [n_rows][n_columns] or null
    float * rows;            // [n_rows][n_columns], or null and
    Tiles tiles;
};

// outputs[row][first_column + column] is the sum of the products of inputs[row] and weights[column].
struct RowProduct {
    const float * weights;  // [n_columns][depth]
    int depth;              // any
    int first_column;
    int n_columns;
    const float * const * inputs;
    float * const * outputs;
    int n_rows;
};

// (x - mean) / sqrt(variance + epsilon) * scale + shift, for each row. `rows` may be `input`.
struct LayerNorm {
    const float * input;  // [n_rows][n_columns]
    int n_rows;
    int n_columns;
    float epsilon;
    const float * scale;  // [n_columns] or null
    const float * shift;  // [n_columns] or null
    float * rows;         // [n_rows][n_columns]
    Tiles tiles;          // a copy, where data is not null
};

// The rows of the heads: row i of a head begins at data + i * row_stride + head * head_stride, or lies in
// tiles of one block. In such a block, any 16 rows that follow each other can be loaded at once; it
// has LINES_BEYOND rows more, which may hold anything.
struct Heads {
    const float * data;  // or null, and
    int64_t row_stride;
    int64_t head_stride;
    Tiles tiles;  // whose lines hold whole parts of one head
};

constexpr int LINES_BEYOND = 15;

// softmax(query * key' * scale) * value, with a scale above 0, within each text. The heads of a row
// lie side by side. Query, key and value lie in tiles, or none of them does.
struct Attention {
    Heads query;
    Heads key;
    Heads value;
    int head_size;
    float scale;
    float * rows;        // or null and
    Tiles tiles;         // whose lines hold whole parts of one head
    int64_t row_stride;  // of rows
    // Which rows of a text to compute, counted from the text's first row. Each is a multiple of
    // rows_per_block, or the text's end.
    int first_query = 0;
    int last_query = INT32_MAX;
};

// The configuration of a thread's tile registers (AMX): the operand of LDTILECFG. All zeros: none.
struct TileConfiguration {
    uint8_t bytes[64] = {};
};

struct Kernels {
    const char * name;
    bool exact;  // arithmetic in float32 throughout
    int values_per_word;
    int rows_per_block;  // the most rows of a block of tiles
    int columns_per_panel;
    // The packed format of weights that a file holds in the format `file`.
    WeightFormat (*format_for)(WeightFormat file);
    size_t (*panel_bytes)(int depth, WeightFormat format);
    // Packs one panel from columns_per_panel rows of `depth` values, in any format but INT8.
    void (*pack_panel)(const float * columns, int depth, WeightFormat format, void * panel);
    // Packs one INT8 panel; each row has depth / 32 scales.
    void (*pack_int8_panel)(const int8_t * columns, const float * scales, int depth, void * panel);
    // Row i begins at rows + i * row_stride.
    void (*pack_rows)(const float * rows, int64_t row_stride, const Tiles & tiles, int first_row, int last_row);
    // Multiplies with the panels from first to last - 1; `scratch` holds multiply_scratch(depth)
    // bytes.
    void (*multiply)(const Product & product, int first_panel, int last_panel, void * scratch);
    size_t (*multiply_scratch)(int depth);
    void (*multiply_rows)(const RowProduct & product);
    void (*normalize)(const LayerNorm & norm, int first_row, int last_row);
    // Attention of one head of one text, whose rows are first_row .. first_row + n_rows - 1.
    void (*attend)(const Attention & attention, int first_row, int n_rows, int head, void * scratch);
    size_t (*attend_scratch)(int n_rows, int head_size);
    // Whether attend() takes tiles too, of heads whose size is a multiple of values_per_line().
    bool attends_to_tiles = false;
    // A kernel leaves the thread's tile registers configured for the next kernel. Code that calls
    // kernels on a thread of others therefore saves the configuration first and restores it at the
    // end: another library may rely on it. On a thread of our own it releases the tiles at the end.
    // Null where there are no tile registers.
    void (*save_tiles)(TileConfiguration & outer) = nullptr;
    void (*restore_tiles)(const TileConfiguration & outer) = nullptr;
    void (*release_tiles)() = nullptr;

    size_t bytes_per_value() const { return values_per_word == 2 ? 2 : 4; }
    int values_per_line() const { return 16 * values_per_word; }
};

extern const Kernels generic_kernels;
#if defined(__x86_64__)
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;
extern const Kernels avx512_bf16_kernels;
extern const Kernels amx_kernels;
#endif

}  // namespace embellama::encoder
