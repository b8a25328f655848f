// SPDX-License-Identifier: Apache-2.0
// The table of an instruction set, from its arithmetic and the block that its registers hold.
#pragma once

#include "../kernels.hpp"
#include "attention.hpp"
#include "int8.hpp"
#include "layer_norm.hpp"
#include "product.hpp"
#include "row_product.hpp"
#include "tiles.hpp"

namespace embellama::encoder {
namespace {

// What the templates of this folder ask of their two kinds of parameters.
//
// A Number is the type of what is multiplied, such as Float32 (float32.hpp) or Bfloat16 (bfloat16.hpp):
//     Value                    one number in memory
//     VALUES_PER_WORD          numbers that one instruction multiplies and adds: 1 or 2
//     VALUES_PER_LINE          numbers in 64 bytes
//     WORDS                    the format of panels that need no widening
//     format_for(file)         the packed format of weights of a file's format
//     pack_panel<COLUMNS>()    packs a panel
//     PanelLine<FORMAT, COLUMNS>  reads a line of a panel, widened
//     multiply_add()           the sum of a register and the products of two
//     store_line()             writes 64 bytes of numbers from float32
//     interleave()             packs two rows of float32 as words
//     exponential(), gelu()    as precise as the number is
//
// A Block multiplies a block of rows with a panel, such as Registers (product.hpp) or TileBlock (tile_block.hpp):
//     Number, Value            what it multiplies
//     ROWS, COLUMNS            of its sums, at most
//     Block(rows_per_block)    prepares its products
//     multiply()               writes the sums
//     multiply_weights()       the same, of weights in a packed format (Registers)
template <typename Block>
struct Requirements {
    using Number = typename Block::Number;
    static_assert(Number::VALUES_PER_WORD == 1 || Number::VALUES_PER_WORD == 2);
    static_assert(Number::VALUES_PER_LINE * sizeof(typename Number::Value) == 64);
    static_assert(sizeof(typename Number::Value) * Number::VALUES_PER_WORD == 4);
    static_assert(Block::COLUMNS % WIDTH == 0);
    static_assert(Block::COLUMNS % Number::VALUES_PER_LINE == 0 && GRANULE % Block::COLUMNS == 0);
    static_assert(GRANULE % Number::VALUES_PER_LINE == 0);
    static constexpr bool HOLD = true;
};

template <typename Block>
void pack_panel(const float * columns, int depth, WeightFormat format, void * panel) {
    Block::Number::template pack_panel<Block::COLUMNS>(columns, depth, format, panel);
}

template <typename Block>
constexpr Kernels table_of(const char * name, decltype(Kernels::multiply) multiply_panels = multiply<Block>) {
    using Number = typename Block::Number;
    static_assert(Requirements<Block>::HOLD);
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
        multiply_rows,
        normalize<Number>,
        attend<Block>,
        attend_scratch<Block>,
    };
}

}  // namespace
}  // namespace embellama::encoder
