// SPDX-License-Identifier: Apache-2.0
#include "self_check.hpp"

#include <cmath>
#include <cstdint>
#include <vector>

#include "scratch.hpp"

namespace embellama::encoder {

namespace {

// More rows than a block of any instruction set has, not a whole number of blocks, and not a whole
// line of keys.
constexpr int N_ROWS = 37;
constexpr int DEPTH = 96;
constexpr int N_COLUMNS = 64;
constexpr int HEAD_SIZE = 32;

// The results are sums of values of size 1, which bfloat16 rounds by 2**-9. The error of a wrong
// result is as large as the result.
constexpr float TOLERANCE = 0.05f;

// Multiples of 1/64 from -1 to 1, which every format holds.
std::vector<float> numbers(size_t n, uint32_t seed) {
    std::vector<float> values(n);
    for (float & value : values) {
        seed = seed * 1664525 + 1013904223;  // Numerical Recipes, ranqd1
        value = static_cast<float>(static_cast<int>(seed >> 25) - 64) / 64;
    }
    return values;
}

std::vector<float> product_of(const Kernels & kernels) {
    const std::vector<float> input = numbers(N_ROWS * DEPTH, 1), weights = numbers(N_COLUMNS * DEPTH, 2);
    const std::vector<float> bias = numbers(N_COLUMNS, 3);
    const int n_panels = N_COLUMNS / kernels.columns_per_panel;
    const int n_blocks = (N_ROWS + kernels.rows_per_block - 1) / kernels.rows_per_block;
    const int rows_per_block = (N_ROWS + n_blocks - 1) / n_blocks;
    Product product = {};
    product.weights.format = kernels.format_for(WeightFormat::FLOAT32);
    product.weights.depth = DEPTH;
    product.weights.n_columns = N_COLUMNS;
    const size_t panel_bytes = kernels.panel_bytes(DEPTH, product.weights.format);
    Scratch panels, tiles, scratch;
    char * panel = static_cast<char *>(panels.reserve(n_panels * panel_bytes));
    product.weights.panels = panel;
    for (int i = 0; i < n_panels; i++) {
        kernels.pack_panel(weights.data() + i * kernels.columns_per_panel * DEPTH, DEPTH, product.weights.format,
                           panel + i * panel_bytes);
    }
    product.input = {tiles.reserve(kernels.bytes_per_value() * n_blocks * rows_per_block * DEPTH), N_ROWS,
                     rows_per_block, DEPTH};
    kernels.pack_rows(input.data(), DEPTH, product.input, 0, N_ROWS);
    product.bias = bias.data();
    product.activation = Activation::GELU_ERF;
    std::vector<float> result(N_ROWS * N_COLUMNS);
    product.rows = result.data();
    kernels.multiply(product, 0, n_panels, scratch.reserve(kernels.multiply_scratch(DEPTH)));
    return result;
}

std::vector<float> attention_of(const Kernels & kernels) {
    const std::vector<float> query = numbers(N_ROWS * HEAD_SIZE, 4), key = numbers(N_ROWS * HEAD_SIZE, 5);
    const std::vector<float> value = numbers(N_ROWS * HEAD_SIZE, 6);
    std::vector<float> result(N_ROWS * HEAD_SIZE);
    Attention attention = {};
    attention.query = {query.data(), HEAD_SIZE, HEAD_SIZE, {}};
    attention.key = {key.data(), HEAD_SIZE, HEAD_SIZE, {}};
    attention.value = {value.data(), HEAD_SIZE, HEAD_SIZE, {}};
    Scratch blocks[3];
    if (kernels.attends_to_tiles) {
        Scratch * memory = blocks;
        for (Heads * heads : {&attention.query, &attention.key, &attention.value}) {
            const int n_lines = N_ROWS + LINES_BEYOND;
            heads->tiles = {memory++->reserve(kernels.bytes_per_value() * n_lines * HEAD_SIZE), N_ROWS, n_lines,
                            HEAD_SIZE};
            kernels.pack_rows(heads->data, heads->row_stride, heads->tiles, 0, N_ROWS);
        }
    }
    attention.head_size = HEAD_SIZE;
    attention.scale = 0.5f;
    attention.rows = result.data();
    attention.row_stride = HEAD_SIZE;
    Scratch scratch;
    kernels.attend(attention, 0, N_ROWS, 0, scratch.reserve(kernels.attend_scratch(N_ROWS, HEAD_SIZE)));
    return result;
}

// Leaves the thread's tile registers as they were.
class TilesRestored {
public:
    explicit TilesRestored(const Kernels & kernels) : kernels(kernels) {
        if (kernels.save_tiles) {
            kernels.save_tiles(outer);
        }
    }
    ~TilesRestored() {
        if (kernels.restore_tiles) {
            kernels.restore_tiles(outer);
        }
    }
    TilesRestored(const TilesRestored &) = delete;
    TilesRestored & operator=(const TilesRestored &) = delete;

private:
    const Kernels & kernels;
    TileConfiguration outer;
};

// NaN is close to nothing.
bool close(const std::vector<float> & a, const std::vector<float> & b) {
    for (size_t i = 0; i < a.size(); i++) {
        if (!(std::abs(a[i] - b[i]) <= TOLERANCE)) {
            return false;
        }
    }
    return true;
}

}  // namespace

bool agree(const Kernels & kernels, const Kernels & others) {
    const TilesRestored restored(kernels);
    return close(product_of(kernels), product_of(others)) && close(attention_of(kernels), attention_of(others));
}

}  // namespace embellama::encoder
