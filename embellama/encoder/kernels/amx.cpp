// SPDX-License-Identifier: Apache-2.0
// AMX with AVX512-FP16: tiles multiply, and vectors of float16 compute softmax.
#define EMBELLAMA_VECTOR_WIDTH 16

#include "table.hpp"
#include "tile_attention.hpp"
#include "tile_block.hpp"
#include "tile_product.hpp"

namespace embellama::encoder {
namespace {

constexpr Kernels amx_table() {
    Kernels table = table_of<TileBlock>("amx", multiply_tiles);
    table.attend = attend_tiles;
    table.attends_to_tiles = true;
    table.save_tiles = save_tiles;
    table.restore_tiles = restore_tiles;
    table.release_tiles = release_tiles;
    return table;
}

}  // namespace

const Kernels amx_kernels = amx_table();

}  // namespace embellama::encoder
