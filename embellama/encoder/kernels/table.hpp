// SPDX-License-Identifier: Apache-2.0
// The table of an instruction set, from its arithmetic and the block that its registers hold.
#pragma once

#include "../kernels.hpp"
#include "attention.hpp"
#include "int8.hpp"
#include "layer_norm.hpp"
#include "product.hpp"
#include "tiles.hpp"

namespace embellama::encoder {
namespace {

template <typename Block>
void pack_panel(const float * columns, int depth, WeightFormat format, void * panel) {
    Block::Number::template pack_panel<Block::COLUMNS>(columns, depth, format, panel);
}

template <typename Block>
constexpr Kernels table_of(const char * name, decltype(Kernels::multiply) multiply_panels = multiply<Block>) {
    using Number = typename Block::Number;
    return {
        name,
        Number::VALUES_PER_WORD == 1,
        Number::VALUES_PER_WORD,
        Block::ROWS,
        Block::COLUMNS,
        Number::format_for,
        panel_bytes<Block::COLUMNS>,
        pack_panel<Block>,
        pack_int8_panel<Block::COLUMNS>,
        pack_rows<Number>,
        multiply_panels,
        multiply_scratch<Block>,
        normalize<Number>,
        attend<Block>,
        attend_scratch<Block>,
    };
}

}  // namespace
}  // namespace embellama::encoder
