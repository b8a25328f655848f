// SPDX-License-Identifier: Apache-2.0
// Rows times rows, in float32 and of any depth: for weights that are not packed.
#pragma once

#include "../kernels.hpp"
#include "simd.hpp"

namespace embellama::encoder {
namespace {

// The sums of ROWS rows and COLUMNS columns stay in registers for the whole depth. A sum is added in
// the same order in blocks of any size.
template <int ROWS, int COLUMNS>
__attribute__((noinline)) void multiply_row_block(const RowProduct & product, int row, int column) {
    const int depth = product.depth;
    const float * const weights = product.weights + static_cast<size_t>(column) * depth;
    Floats sums[ROWS][COLUMNS] = {};
    int k = 0;
    for (; k + WIDTH <= depth; k += WIDTH) {
        Floats values[COLUMNS];
#pragma GCC unroll 4
        for (int j = 0; j < COLUMNS; j++) {
            values[j] = load(weights + static_cast<size_t>(j) * depth + k);
        }
#pragma GCC unroll 4
        for (int i = 0; i < ROWS; i++) {
            const Floats input = load(product.inputs[row + i] + k);
#pragma GCC unroll 4
            for (int j = 0; j < COLUMNS; j++) {
                sums[i][j] = input * values[j] + sums[i][j];
            }
        }
    }
    for (int i = 0; i < ROWS; i++) {
        for (int j = 0; j < COLUMNS; j++) {
            float sum = sum_of(sums[i][j]);
            for (int rest = k; rest < depth; rest++) {
                sum += product.inputs[row + i][rest] * weights[static_cast<size_t>(j) * depth + rest];
            }
            product.outputs[row + i][product.first_column + column + j] = sum;
        }
    }
}

template <int ROWS>
EMBELLAMA_INLINE void multiply_row_columns(const RowProduct & product, int row) {
    int column = 0;
    for (; column + 4 <= product.n_columns; column += 4) {
        multiply_row_block<ROWS, 4>(product, row, column);
    }
    for (; column < product.n_columns; column++) {
        multiply_row_block<ROWS, 1>(product, row, column);
    }
}

void multiply_rows(const RowProduct & product) {
    // Sixteen vector registers hold the sums of two rows and four columns, and what is multiplied;
    // with AVX-512 there are thirty-two.
    constexpr int ROWS = WIDTH == 16 ? 4 : 2;
    int row = 0;
    for (; row + ROWS <= product.n_rows; row += ROWS) {
        multiply_row_columns<ROWS>(product, row);
    }
    for (; row < product.n_rows; row++) {
        multiply_row_columns<1>(product, row);
    }
}

}  // namespace
}  // namespace embellama::encoder
