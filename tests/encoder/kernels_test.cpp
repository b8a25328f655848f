// SPDX-License-Identifier: Apache-2.0
// Each instruction set's kernels against plain loops in double precision, at odd sizes, on memory
// that ends where the data ends. Built with sanitizers by tests/sanitize.sh.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "../../embellama/encoder/instruction_sets.hpp"
#include "../../embellama/encoder/kernels.hpp"
#include "../../embellama/encoder/self_check.hpp"

using namespace embellama::encoder;

namespace {

int failures = 0;

void check(bool condition, const Kernels & kernels, const std::string & what) {
    if (!condition) {
        printf("%s: %s\n", kernels.name, what.c_str());
        failures++;
    }
}

std::mt19937 generator(1);

std::vector<float> random_floats(size_t n) {
    std::normal_distribution<float> normal;
    std::vector<float> values(n);
    for (float & value : values) {
        value = normal(generator);
    }
    return values;
}

// Aligned as the encoder's own memory is, and followed by nothing that may be read or written.
class Memory {
public:
    explicit Memory(size_t n_bytes, int fill = 0xff) {
        if (posix_memalign(&memory, 64, n_bytes) != 0) {
            abort();
        }
        memset(memory, fill, n_bytes);
    }
    ~Memory() { free(memory); }
    Memory(const Memory &) = delete;
    Memory & operator=(const Memory &) = delete;
    void * data() const { return memory; }

private:
    void * memory = nullptr;
};

// Products of values of size 1: bfloat16 rounds each factor by 2**-9, float32 each sum by 2**-24.
double tolerance(const Kernels & kernels, int n_products) {
    return (kernels.exact ? 1e-5 : 0.02) * std::sqrt(n_products);
}

size_t tile_bytes(const Kernels & kernels, const Tiles & tiles) {
    const int n_blocks = (tiles.n_rows + tiles.rows_per_block - 1) / tiles.rows_per_block;
    return kernels.bytes_per_value() * n_blocks * tiles.rows_per_block * tiles.depth;
}

int block_for(const Kernels & kernels, int n_rows) {
    const int n_blocks = (n_rows + kernels.rows_per_block - 1) / kernels.rows_per_block;
    return (n_rows + n_blocks - 1) / n_blocks;
}

double value_of(const Kernels & kernels, const Tiles & tiles, int row, int k) {
    const int line = kernels.values_per_line();
    const size_t at = static_cast<size_t>(row / tiles.rows_per_block) * tiles.rows_per_block * tiles.depth +
                      static_cast<size_t>(k / line) * tiles.rows_per_block * line +
                      static_cast<size_t>(row % tiles.rows_per_block) * line + k % line;
    if (kernels.values_per_word == 1) {
        return static_cast<const float *>(tiles.data)[at];
    }
    const uint32_t word = static_cast<uint32_t>(static_cast<const uint16_t *>(tiles.data)[at]) << 16;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

double gelu(double x, Activation activation) {
    switch (activation) {
        case Activation::GELU_ERF:
            return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
        case Activation::GELU_TANH:
            return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
        default:
            return x;
    }
}

float rounded_to(WeightFormat format, float value) {
    if (format == WeightFormat::FLOAT32) {
        return value;
    }
    uint32_t word;
    memcpy(&word, &value, sizeof word);
    word &= format == WeightFormat::FLOAT16 ? 0xffffe000u : 0xffff0000u;
    memcpy(&value, &word, sizeof value);
    // Below 2**-14 a float16 has fewer digits, and below 2**-24 none.
    return format == WeightFormat::FLOAT16 && std::abs(value) < 0x1p-14f ? 0x1p-24f : value;
}

struct PackedWeights {
    std::vector<float> values;
    Memory memory;
    Weights weights;

    PackedWeights(const Kernels & kernels, WeightFormat file, int depth, int n_columns)
        : values(random_floats(static_cast<size_t>(depth) * n_columns)),
          memory(kernels.panel_bytes(depth, kernels.format_for(file)) * (n_columns / kernels.columns_per_panel)),
          weights{memory.data(), kernels.format_for(file), depth, n_columns} {
        std::vector<int8_t> bytes(values.size());
        std::vector<float> scales(values.size() / 32);
        for (size_t i = 0; i < values.size(); i++) {
            if (file == WeightFormat::INT8) {
                scales[i / 32] = 0.01f + 0.001f * (i / 32 % 7);
                bytes[i] = static_cast<int8_t>(std::clamp(values[i] / scales[i / 32], -128.0f, 127.0f));
                values[i] = bytes[i] * scales[i / 32];
            } else {
                values[i] = rounded_to(file, values[i]);
            }
        }
        const int columns = kernels.columns_per_panel;
        for (int panel = 0; panel < n_columns / columns; panel++) {
            const size_t first = static_cast<size_t>(panel) * columns * depth;
            char * target = static_cast<char *>(memory.data()) + panel * kernels.panel_bytes(depth, weights.format);
            if (weights.format == WeightFormat::INT8) {
                kernels.pack_int8_panel(bytes.data() + first, scales.data() + first / 32, depth, target);
            } else {
                kernels.pack_panel(values.data() + first, depth, weights.format, target);
            }
        }
    }
};

void test_product(const Kernels & kernels, int n_rows, int depth, int n_columns, WeightFormat file,
                  Activation activation, bool with_bias, bool with_residual, bool to_tiles) {
    const std::string what = "product of " + std::to_string(n_rows) + " x " + std::to_string(depth) + " x " +
                             std::to_string(n_columns) + ", format " + std::to_string(static_cast<int>(file)) +
                             ", activation " + std::to_string(static_cast<int>(activation));
    const PackedWeights packed(kernels, file, depth, n_columns);
    const std::vector<float> input = random_floats(static_cast<size_t>(n_rows) * depth);
    const std::vector<float> bias = random_floats(n_columns);
    const std::vector<float> residual = random_floats(static_cast<size_t>(n_rows) * n_columns);
    Product product = {};
    product.input = {nullptr, n_rows, block_for(kernels, n_rows), depth};
    const Memory tiles(tile_bytes(kernels, product.input));
    product.input.data = tiles.data();
    kernels.pack_rows(input.data(), depth, product.input, 0, n_rows);
    product.weights = packed.weights;
    product.bias = with_bias ? bias.data() : nullptr;
    product.activation = activation;
    product.residual = with_residual ? residual.data() : nullptr;
    std::vector<float> rows(static_cast<size_t>(n_rows) * n_columns);
    product.tiles = {nullptr, n_rows, product.input.rows_per_block, n_columns};
    const Memory result(tile_bytes(kernels, product.tiles));
    if (to_tiles) {
        product.tiles.data = result.data();
    } else {
        product.rows = rows.data();
    }
    const Memory scratch(kernels.multiply_scratch(depth));
    // In two parts, as two threads would.
    const int n_panels = n_columns / kernels.columns_per_panel;
    kernels.multiply(product, 0, n_panels / 2, scratch.data());
    kernels.multiply(product, n_panels / 2, n_panels, scratch.data());
    double worst = 0;
    for (int row = 0; row < n_rows; row++) {
        for (int column = 0; column < n_columns; column++) {
            double sum = with_bias ? bias[column] : 0.0;
            for (int k = 0; k < depth; k++) {
                sum += static_cast<double>(input[static_cast<size_t>(row) * depth + k]) *
                       packed.values[static_cast<size_t>(column) * depth + k];
            }
            double expected = gelu(sum, activation);
            const size_t at = static_cast<size_t>(row) * n_columns + column;
            if (with_residual) {
                expected += residual[at];
            }
            const double found = to_tiles ? value_of(kernels, product.tiles, row, column) : rows[at];
            const double error = std::abs(found - expected);
            worst = error <= worst ? worst : error;  // NaN stays
        }
    }
    check(worst <= tolerance(kernels, depth), kernels, what + ": off by " + std::to_string(worst));
}

void test_products(const Kernels & kernels) {
    for (int n_rows = 1; n_rows <= 67; n_rows++) {
        test_product(kernels, n_rows, 64, 64, WeightFormat::FLOAT32, Activation::NONE, n_rows % 2, n_rows % 3 == 0,
                     n_rows % 5 == 0);
    }
    for (const int depth : {32, 96, 352, 1536}) {
        for (const int n_columns : {32, 96}) {
            for (const WeightFormat format :
                 {WeightFormat::FLOAT32, WeightFormat::FLOAT16, WeightFormat::BFLOAT16, WeightFormat::INT8}) {
                for (const Activation activation : {Activation::NONE, Activation::GELU_ERF, Activation::GELU_TANH}) {
                    test_product(kernels, 19, depth, n_columns, format, activation, true, false, true);
                    test_product(kernels, 13, depth, n_columns, format, activation, true, true, false);
                }
            }
        }
    }
    // More rows than one chunk of the cache holds.
    test_product(kernels, 301, 1536, 32, WeightFormat::FLOAT16, Activation::NONE, false, false, false);
}

// Of any depth, and in any order of rows. A row's results must not depend on the rows beside it.
void test_row_product(const Kernels & kernels, int n_rows, int depth, int n_columns) {
    const std::string what =
        "rows of " + std::to_string(n_rows) + " x " + std::to_string(depth) + " x " + std::to_string(n_columns);
    const std::vector<float> weights = random_floats(static_cast<size_t>(n_columns) * depth);
    const std::vector<float> rows = random_floats(static_cast<size_t>(n_rows) * depth);
    const int first_column = 3;
    std::vector<float> together(static_cast<size_t>(n_rows) * (first_column + n_columns));
    std::vector<float> alone(first_column + n_columns);
    std::vector<const float *> inputs;
    std::vector<float *> outputs;
    for (int row = n_rows - 1; row >= 0; row--) {
        inputs.push_back(rows.data() + static_cast<size_t>(row) * depth);
        outputs.push_back(together.data() + static_cast<size_t>(row) * (first_column + n_columns));
    }
    kernels.multiply_rows({weights.data(), depth, first_column, n_columns, inputs.data(), outputs.data(), n_rows});
    for (int i = 0; i < n_rows; i++) {
        float * output = alone.data();
        kernels.multiply_rows({weights.data(), depth, first_column, n_columns, &inputs[i], &output, 1});
        check(std::equal(alone.begin(), alone.end(), outputs[i]), kernels, what + ": depends on other rows");
        for (int column = 0; column < n_columns; column++) {
            double sum = 0;
            for (int k = 0; k < depth; k++) {
                sum += static_cast<double>(inputs[i][k]) * weights[static_cast<size_t>(column) * depth + k];
            }
            const double error = std::abs(output[first_column + column] - sum);
            check(error <= 1e-5 * std::sqrt(depth), kernels, what + ": off by " + std::to_string(error));
        }
    }
}

void test_row_products(const Kernels & kernels) {
    for (const int depth : {1, 15, 16, 33, 352}) {
        for (const int n_rows : {1, 2, 3, 4, 5, 7, 9}) {
            for (const int n_columns : {1, 3, 4, 8, 9}) {
                test_row_product(kernels, n_rows, depth, n_columns);
            }
        }
    }
}

// Where results are rounded to bfloat16, a cheaper form will do.
double gelu_tolerance(const Kernels & kernels, Activation activation, double x) {
    const double error = kernels.exact || activation == Activation::GELU_TANH ? 1e-6 : 2e-4;
    return error + error * std::min(std::abs(x), 65504.0);
}

void test_activation_ends(const Kernels & kernels) {
    // One row of ones times these is themselves, through the bias.
    const float values[] = {0.0f,         -0.0f, 1e-38f, -1e-42f, 1e-3f,
                            -1e-3f,       5.0f,  -5.0f,  13.0f,   -13.0f,
                            1e4f,         -1e4f, 1e30f,  -1e30f,  std::numeric_limits<float>::infinity(),
                            std::nanf("")};
    for (const Activation activation : {Activation::GELU_ERF, Activation::GELU_TANH}) {
        Product product = {};
        const Memory tiles(kernels.bytes_per_value() * 32, 0), panels(4 * 32 * 32, 0);
        const Memory scratch(kernels.multiply_scratch(32));
        float bias[32] = {}, rows[32];
        memcpy(bias, values, sizeof values);
        product.input = {tiles.data(), 1, 1, 32};
        product.weights = {panels.data(), kernels.format_for(WeightFormat::FLOAT32), 32, 32};
        product.bias = bias;
        product.activation = activation;
        product.rows = rows;
        kernels.multiply(product, 0, 32 / kernels.columns_per_panel, scratch.data());
        for (int i = 0; i < 16; i++) {
            const double expected = gelu(values[i], activation);
            const bool same = std::isfinite(values[i])
                                  ? std::abs(rows[i] - expected) <= gelu_tolerance(kernels, activation, values[i])
                                  : !std::isfinite(rows[i]);
            check(same, kernels, "GELU of " + std::to_string(values[i]) + " is " + std::to_string(rows[i]));
        }
    }
}

// GELU from -9 to 9, where it is not yet 0 or its operand.
void test_gelu(const Kernels & kernels) {
    constexpr int N = 1024;
    Product product = {};
    const Memory tiles(kernels.bytes_per_value() * 32, 0), panels(4 * 32 * N, 0);
    const Memory scratch(kernels.multiply_scratch(32));
    std::vector<float> bias(N), rows(N);
    for (int i = 0; i < N; i++) {
        bias[i] = (i - N / 2) * (9.0f / (N / 2));
    }
    product.input = {tiles.data(), 1, 1, 32};
    product.weights = {panels.data(), kernels.format_for(WeightFormat::FLOAT32), 32, N};
    product.bias = bias.data();
    product.activation = Activation::GELU_ERF;
    product.rows = rows.data();
    kernels.multiply(product, 0, N / kernels.columns_per_panel, scratch.data());
    for (int i = 0; i < N; i++) {
        const double expected = gelu(bias[i], Activation::GELU_ERF), error = std::abs(rows[i] - expected);
        check(error <= gelu_tolerance(kernels, Activation::GELU_ERF, bias[i]), kernels,
              "GELU of " + std::to_string(bias[i]) + " is " + std::to_string(rows[i]));
    }
}

void test_layer_norm(const Kernels & kernels) {
    for (const int n_columns : {32, 96, 384, 1024}) {
        for (const int n_rows : {1, 2, 13, 17, 67}) {
            const std::vector<float> input = random_floats(static_cast<size_t>(n_rows) * n_columns);
            const std::vector<float> scale = random_floats(n_columns), shift = random_floats(n_columns);
            std::vector<float> rows = input;  // in place
            LayerNorm norm = {rows.data(), n_rows, n_columns, 1e-12f, scale.data(), shift.data(), rows.data(), {}};
            norm.tiles = {nullptr, n_rows, block_for(kernels, n_rows), n_columns};
            const Memory tiles(tile_bytes(kernels, norm.tiles));
            norm.tiles.data = tiles.data();
            kernels.normalize(norm, 0, n_rows / 2);
            kernels.normalize(norm, n_rows / 2, n_rows);
            double worst = 0, worst_tile = 0;
            for (int row = 0; row < n_rows; row++) {
                const float * x = input.data() + static_cast<size_t>(row) * n_columns;
                double mean = 0, variance = 0;
                for (int i = 0; i < n_columns; i++) {
                    mean += x[i] / n_columns;
                }
                for (int i = 0; i < n_columns; i++) {
                    variance += (x[i] - mean) * (x[i] - mean) / n_columns;
                }
                for (int i = 0; i < n_columns; i++) {
                    const double expected = (x[i] - mean) / std::sqrt(variance + 1e-12) * scale[i] + shift[i];
                    worst = std::max(worst, std::abs(rows[static_cast<size_t>(row) * n_columns + i] - expected));
                    worst_tile = std::max(worst_tile, std::abs(value_of(kernels, norm.tiles, row, i) - expected));
                }
            }
            check(worst <= 1e-5, kernels, "layer norm off by " + std::to_string(worst));
            check(worst_tile <= tolerance(kernels, 4), kernels, "its tiles off by " + std::to_string(worst_tile));
        }
    }
}

// The heads of query, key or value: in rows, or in tiles of one block.
class Operand {
public:
    Operand(const Kernels & kernels, const std::vector<float> & rows, int width, int head_size, bool in_tiles)
        : heads{rows.data(), width, head_size, {}} {
        if (in_tiles) {
            const int n_rows = static_cast<int>(rows.size()) / width;
            heads.tiles = {nullptr, n_rows, n_rows + LINES_BEYOND, width};
            memory = std::make_unique<Memory>(tile_bytes(kernels, heads.tiles));
            heads.tiles.data = memory->data();
            kernels.pack_rows(rows.data(), width, heads.tiles, 0, n_rows);
            heads.data = nullptr;
        }
    }

    Heads heads;

private:
    std::unique_ptr<Memory> memory;
};

// Queries from first_query on, in two parts as two threads would.
void test_attention(const Kernels & kernels, int n_rows, int head_size, bool from_tiles, bool to_tiles,
                    int first_query = 0) {
    constexpr int n_heads = 3, before = 2, after = 3;
    const int width = n_heads * head_size, all = before + n_rows + after;
    const std::vector<float> query = random_floats(static_cast<size_t>(all) * width);
    std::vector<float> key = random_floats(query.size()), value = random_floats(query.size());
    // What belongs to other texts must not be looked at.
    for (int row = 0; row < all; row++) {
        if (row < before || row >= before + n_rows) {
            std::fill_n(key.begin() + static_cast<size_t>(row) * width, width, std::nanf(""));
            std::fill_n(value.begin() + static_cast<size_t>(row) * width, width, std::nanf(""));
        }
    }
    std::vector<float> rows(query.size());
    const Operand queries(kernels, query, width, head_size, from_tiles);
    const Operand keys(kernels, key, width, head_size, from_tiles);
    const Operand values(kernels, value, width, head_size, from_tiles);
    Attention attention = {};
    attention.query = queries.heads;
    attention.key = keys.heads;
    attention.value = values.heads;
    attention.head_size = head_size;
    attention.scale = 1 / std::sqrt(static_cast<float>(head_size));
    attention.row_stride = width;
    attention.tiles = {nullptr, all, block_for(kernels, all), width};
    const Memory tiles(tile_bytes(kernels, attention.tiles));
    if (to_tiles) {
        attention.tiles.data = tiles.data();
    } else {
        attention.rows = rows.data();
    }
    const Memory scratch(kernels.attend_scratch(n_rows, head_size));
    double worst = 0;
    for (int head = 0; head < n_heads; head++) {
        const int middle = (first_query + n_rows) / 2 / kernels.rows_per_block * kernels.rows_per_block;
        attention.first_query = first_query;
        attention.last_query = std::max(first_query, middle);
        kernels.attend(attention, before, n_rows, head, scratch.data());
        attention.first_query = attention.last_query;
        attention.last_query = INT32_MAX;
        kernels.attend(attention, before, n_rows, head, scratch.data());
        for (int i = before + first_query; i < before + n_rows; i++) {
            const size_t from = static_cast<size_t>(i) * width + head * head_size;
            std::vector<double> weights(n_rows);
            double highest = -1e300, sum = 0;
            for (int j = 0; j < n_rows; j++) {
                double score = 0;
                for (int k = 0; k < head_size; k++) {
                    score += static_cast<double>(query[from + k]) *
                             key[static_cast<size_t>(before + j) * width + head * head_size + k];
                }
                weights[j] = score * attention.scale;
                highest = std::max(highest, weights[j]);
            }
            for (double & weight : weights) {
                weight = std::exp(weight - highest);
                sum += weight;
            }
            for (int k = 0; k < head_size; k++) {
                double expected = 0;
                for (int j = 0; j < n_rows; j++) {
                    const size_t at = static_cast<size_t>(before + j) * width + head * head_size + k;
                    expected += weights[j] / sum * value[at];
                }
                const double found =
                    to_tiles ? value_of(kernels, attention.tiles, i, head * head_size + k) : rows[from + k];
                const double error = std::abs(found - expected);
                worst = error <= worst ? worst : error;
            }
        }
    }
    check(worst <= tolerance(kernels, 4), kernels,
          "attention of " + std::to_string(n_rows) + " rows, heads of " + std::to_string(head_size) +
              (from_tiles ? " in tiles" : "") + ", off by " + std::to_string(worst));
}

void test_attentions(const Kernels & kernels, bool from_tiles) {
    for (int n_rows = 1; n_rows <= 67; n_rows++) {
        test_attention(kernels, n_rows, 32, from_tiles, n_rows % 2);
    }
    for (const int head_size : {16, 48, 64, 80, 96, 128, 256}) {
        const bool whole_lines = head_size % kernels.values_per_line() == 0;
        if (from_tiles && !whole_lines) {
            continue;
        }
        for (const int n_rows : {1, 2, 15, 16, 17, 31, 32, 33, 65}) {
            test_attention(kernels, n_rows, head_size, from_tiles, whole_lines && n_rows % 2);
        }
    }
    test_attention(kernels, 300, 64, from_tiles, false);
    test_attention(kernels, 8192, 32, from_tiles, true,
                   8192 / kernels.rows_per_block * kernels.rows_per_block - kernels.rows_per_block);
}

// Scores so far below the largest that float16 does not hold the difference have no weight.
void test_attention_to_one_key(const Kernels & kernels, bool from_tiles) {
    constexpr int n_rows = 40, head_size = 32;
    const std::vector<float> query = random_floats(n_rows * head_size), key = random_floats(n_rows * head_size);
    const std::vector<float> value(n_rows * head_size, 1.0f);
    std::vector<float> rows(n_rows * head_size);
    const Operand queries(kernels, query, head_size, head_size, from_tiles);
    const Operand keys(kernels, key, head_size, head_size, from_tiles);
    const Operand values(kernels, value, head_size, head_size, from_tiles);
    Attention attention = {};
    attention.query = queries.heads;
    attention.key = keys.heads;
    attention.value = values.heads;
    attention.head_size = head_size;
    attention.scale = 1e6f;
    attention.rows = rows.data();
    attention.row_stride = head_size;
    const Memory scratch(kernels.attend_scratch(n_rows, head_size));
    kernels.attend(attention, 0, n_rows, 0, scratch.data());
    for (const float x : rows) {
        check(std::abs(x - 1) <= 1e-2, kernels, "attention to one key is off by " + std::to_string(x - 1));
    }
}

// A NaN in any of the three must reach the result of every row that it belongs to.
void test_attention_keeps_nan(const Kernels & kernels, bool from_tiles) {
    constexpr int n_rows = 20, head_size = 32;
    for (int which = 0; which < 3; which++) {
        std::vector<float> parts[3];
        for (auto & part : parts) {
            part = random_floats(n_rows * head_size);
        }
        parts[which][7 * head_size + 5] = std::nanf("");
        std::vector<float> rows(n_rows * head_size);
        const Operand queries(kernels, parts[0], head_size, head_size, from_tiles);
        const Operand keys(kernels, parts[1], head_size, head_size, from_tiles);
        const Operand values(kernels, parts[2], head_size, head_size, from_tiles);
        Attention attention = {};
        attention.query = queries.heads;
        attention.key = keys.heads;
        attention.value = values.heads;
        attention.head_size = head_size;
        attention.scale = 1;
        attention.rows = rows.data();
        attention.row_stride = head_size;
        const Memory scratch(kernels.attend_scratch(n_rows, head_size));
        kernels.attend(attention, 0, n_rows, 0, scratch.data());
        bool found = false;
        for (int k = 0; k < head_size; k++) {
            found |= std::isnan(rows[7 * head_size + k]);
        }
        check(found, kernels, "attention drops a NaN of operand " + std::to_string(which));
    }
}

// Kernels that compute something else are found out: a product without its last line of depth, an
// attention with another scale, NaN.
void test_self_check(const Kernels & kernels) {
    static const Kernels * whole;
    whole = &kernels;
    check(agree(kernels, generic_kernels), kernels, "does not agree with the generic kernels");
    Kernels broken = kernels;
    broken.multiply = [](const Product & product, int first_panel, int last_panel, void * scratch) {
        for (int row = 0; row < product.input.n_rows; row++) {
            for (int k = 64; k < 96; k++) {
                const int line = whole->values_per_line();
                const Tiles & tiles = product.input;
                const size_t at = static_cast<size_t>(row / tiles.rows_per_block) * tiles.rows_per_block * tiles.depth +
                                  static_cast<size_t>(k / line) * tiles.rows_per_block * line +
                                  static_cast<size_t>(row % tiles.rows_per_block) * line + k % line;
                const size_t size = whole->bytes_per_value();
                memset(static_cast<char *>(tiles.data) + at * size, 0, size);
            }
        }
        whole->multiply(product, first_panel, last_panel, scratch);
    };
    check(!agree(broken, generic_kernels), kernels, "a product of two thirds of the depth passes for whole");
    broken = kernels;
    broken.attend = [](const Attention & attention, int first_row, int n_rows, int head, void * scratch) {
        Attention other = attention;
        other.scale *= 0.5f;
        whole->attend(other, first_row, n_rows, head, scratch);
    };
    check(!agree(broken, generic_kernels), kernels, "an attention of another scale passes for the right one");
    broken.attend = [](const Attention & attention, int, int n_rows, int, void *) {
        std::fill_n(attention.rows, n_rows * attention.row_stride, std::nanf(""));
    };
    check(!agree(broken, generic_kernels), kernels, "NaN passes for a number");
}

}  // namespace

int main() {
#if defined(EMBELLAMA_TRAPPED_TILES)
    const std::vector<const Kernels *> tables = {&amx_kernels};
#else
    set_limit(static_cast<embellama::InstructionSet>(embellama::N_INSTRUCTION_SETS - 1));
    const std::vector<const Kernels *> tables = available_kernels();
#endif
    for (const Kernels * kernels : tables) {
        test_products(*kernels);
        test_row_products(*kernels);
        test_activation_ends(*kernels);
        test_gelu(*kernels);
        test_layer_norm(*kernels);
        for (const bool from_tiles : {false, true}) {
            if (!from_tiles || kernels->attends_to_tiles) {
                test_attentions(*kernels, from_tiles);
                test_attention_to_one_key(*kernels, from_tiles);
                test_attention_keeps_nan(*kernels, from_tiles);
            }
        }
        test_self_check(*kernels);
        printf("%s: done\n", kernels->name);
    }
    return failures != 0;
}
