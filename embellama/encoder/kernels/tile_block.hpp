// SPDX-License-Identifier: Apache-2.0
// AMX's tile registers: 16 lines of 64 bytes each, which hold bfloat16 or sums of float32.
//
// The tile instructions load the tiles and panels of kernels.hpp directly: 16 lines of a block, one
// after the other, and 16 words of 16 columns at a distance of 128 bytes.
#pragma once

#include <immintrin.h>

#include "../kernels.hpp"
#include "bfloat16.hpp"
#include "simd.hpp"

namespace embellama::encoder {
namespace {

// GCC 12 assumes that _tile_loadd depends on its arguments alone, and that the operands of
// _tile_loadconfig and _tile_storeconfig have 8 bytes. The barriers make it write memory before, and
// read memory after; the second is for an object that no other function knows.
EMBELLAMA_INLINE void memory_barrier() { __asm__ volatile("" ::: "memory"); }
EMBELLAMA_INLINE void memory_barrier(const void * object) { __asm__ volatile("" : : "r"(object) : "memory"); }

EMBELLAMA_INLINE void load_configuration(const void * configuration) {
    memory_barrier(configuration);
    _tile_loadconfig(configuration);
}

void save_tiles(TileConfiguration & outer) {
    _tile_storeconfig(&outer);
    memory_barrier(&outer);
}

void release_tiles() { _tile_release(); }

void restore_tiles(const TileConfiguration & outer) {
    const uint8_t palette = outer.bytes[0];
    palette ? load_configuration(&outer) : release_tiles();
}

// Configures tiles 0 to 5 with `n_rows` rows and tiles 6 and 7 with 16, unless they are. All lines
// have 64 bytes. Loading a configuration also clears all tiles.
EMBELLAMA_INLINE void configure_tiles(int n_rows) {
    // Intel Architecture Instruction Set Extensions Programming Reference, LDTILECFG: the palette,
    // the first row, 14 bytes of zeros, 16 lengths of lines in bytes, 16 numbers of rows.
    struct alignas(64) {
        uint8_t palette = 1;
        uint8_t start_row = 0;
        uint8_t reserved[14] = {};
        uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
        uint8_t rows[16] = {};
    } wanted;
    for (int tile = 0; tile < 8; tile++) {
        wanted.rows[tile] = tile < 6 ? static_cast<uint8_t>(n_rows) : 16;
    }
    alignas(64) TileConfiguration present;
    _tile_storeconfig(&present);
    memory_barrier(&present);
    if (_mm512_cmpneq_epi64_mask(_mm512_load_si512(&wanted), _mm512_load_si512(&present))) {
        load_configuration(&wanted);
    }
}

// A block of rows times a panel, for attention with heads of sizes that are no multiple of 32.
class TileBlock {
public:
    using Number = Bfloat16;
    using Value = Bfloat16::Value;
    static constexpr int ROWS = 16;
    static constexpr int COLUMNS = 32;

    explicit TileBlock(int rows_per_block) { configure_tiles(rows_per_block); }

    // Rows beyond n_rows are computed too, from whatever lies in the block.
    EMBELLAMA_INLINE void multiply(int, const Value * tile, int rows_per_block, int n_lines, const Value * panel,
                                   float * sums, int stride) {
        memory_barrier();
        _tile_zero(0);
        _tile_zero(1);
        for (int line = 0; line < n_lines; line++) {
            _tile_loadd(4, tile, 64);
            _tile_loadd(6, panel, 128);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, panel + 32, 128);
            _tile_dpbf16ps(1, 4, 7);
            tile += rows_per_block * Number::VALUES_PER_LINE;
            panel += 16 * COLUMNS * 2;
        }
        _tile_stored(0, sums, stride * sizeof(float));
        _tile_stored(1, sums + 16, stride * sizeof(float));
        memory_barrier();
    }
};

}  // namespace
}  // namespace embellama::encoder
