// SPDX-License-Identifier: Apache-2.0
// The table of an instruction set, from its arithmetic and the block that its registers hold.
#pragma once

#include "../kernels.hpp"
#include "attention.hpp"
#include "layer_norm.hpp"
#include "product.hpp"
#include "tiles.hpp"

namespace embellama::encoder {
namespace {

template <typename Number, int COLUMNS>
void pack_panel(const float * columns, int depth, WeightFormat format, void * panel) {
    Number::template pack_panel<COLUMNS>(columns, depth, format, panel);
}

template <typename Number, int ROWS, int COLUMNS>
constexpr Kernels table_of(const char * name) {
    return {
        name,
        Number::VALUES_PER_WORD == 1,
        Number::VALUES_PER_WORD,
        ROWS,
        COLUMNS,
        Number::format_for,
        pack_panel<Number, COLUMNS>,
        pack_rows<Number>,
        multiply<Number, ROWS, COLUMNS>,
        multiply_scratch<Number, COLUMNS>,
        normalize<Number>,
        attend<Number, ROWS, COLUMNS>,
        attend_scratch<Number, ROWS, COLUMNS>,
    };
}

}  // namespace
}  // namespace embellama::encoder
