// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <math.h>

#include "../kernels.hpp"
#include "simd.hpp"
#include "tiles.hpp"

namespace embellama::encoder {
namespace {

template <typename Number>
void normalize(const LayerNorm & norm, int first_row, int last_row) {
    const int n = norm.n_columns;
    for (int row = first_row; row < last_row; row++) {
        const float * input = norm.input + static_cast<size_t>(row) * n;
        float * output = norm.rows + static_cast<size_t>(row) * n;
        Floats even{}, odd{};
        for (int i = 0; i < n; i += 2 * WIDTH) {
            even += load(input + i);
            odd += load(input + i + WIDTH);
        }
        const Floats mean = splat(sum_of(even + odd) / n);
        even = odd = Floats{};
        for (int i = 0; i < n; i += 2 * WIDTH) {
            const Floats x = load(input + i) - mean;
            const Floats y = load(input + i + WIDTH) - mean;
            even += x * x;
            odd += y * y;
        }
        const Floats factor = splat(1.0f / sqrtf(sum_of(even + odd) / n + norm.epsilon));
        for (int i = 0; i < n; i += WIDTH) {
            Floats x = (load(input + i) - mean) * factor;
            if (norm.scale) {
                x *= load(norm.scale + i);
            }
            if (norm.shift) {
                x += load(norm.shift + i);
            }
            store(output + i, x);
        }
        if (norm.tiles.data) {
            store_tile_row<Number>(norm.tiles, row, output);
        }
    }
}

}  // namespace
}  // namespace embellama::encoder
