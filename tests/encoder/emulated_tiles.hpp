// SPDX-License-Identifier: Apache-2.0
// The tile instructions that kernels/amx.cpp uses, in plain C++, for processors without AMX. After
// Intel's Architecture Instruction Set Extensions Programming Reference, chapter 3; products are
// summed one after the other, each rounded to float32, as TDPBF16PS does.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace emulated_tiles {

struct Configuration {
    uint8_t palette;
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t bytes_per_row[16];
    uint8_t rows[16];
};

inline thread_local Configuration configuration = {};
inline thread_local uint8_t data[8][16][64];

// What raises #GP or #UD on a processor ends the test.
inline void require(bool condition) {
    if (!condition) {
        abort();
    }
}

inline void load_configuration(const void * source) {
    memcpy(&configuration, source, sizeof configuration);
    require(configuration.palette <= 1 && configuration.start_row == 0);
    for (int tile = 0; tile < 8; tile++) {
        require(configuration.rows[tile] <= 16 && configuration.bytes_per_row[tile] <= 64);
    }
    memset(data, 0, sizeof data);
}

inline void store_configuration(void * target) { memcpy(target, &configuration, sizeof configuration); }

inline void zero(int tile) {
    require(configuration.palette == 1);
    memset(data[tile], 0, sizeof data[tile]);
}

inline void load(int tile, const void * base, size_t stride) {
    zero(tile);
    for (int row = 0; row < configuration.rows[tile]; row++) {
        memcpy(data[tile][row], static_cast<const char *>(base) + row * stride, configuration.bytes_per_row[tile]);
    }
}

inline void store(int tile, void * base, size_t stride) {
    require(configuration.palette == 1);
    for (int row = 0; row < configuration.rows[tile]; row++) {
        memcpy(static_cast<char *>(base) + row * stride, data[tile][row], configuration.bytes_per_row[tile]);
    }
}

inline float widen(const uint8_t * source) {
    uint32_t word = 0;
    memcpy(reinterpret_cast<uint8_t *>(&word) + 2, source, 2);
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

inline void multiply_add(int sums, int left, int right) {
    const int depth = configuration.bytes_per_row[left] / 4;
    require(configuration.rows[right] == depth && configuration.rows[sums] == configuration.rows[left] &&
            configuration.bytes_per_row[sums] == configuration.bytes_per_row[right]);
    for (int row = 0; row < configuration.rows[sums]; row++) {
        for (int column = 0; column < configuration.bytes_per_row[sums] / 4; column++) {
            float sum;
            memcpy(&sum, data[sums][row] + 4 * column, 4);
            for (int k = 0; k < depth; k++) {
                for (int half = 0; half < 2; half++) {
                    sum += widen(data[left][row] + 4 * k + 2 * half) * widen(data[right][k] + 4 * column + 2 * half);
                }
            }
            memcpy(data[sums][row] + 4 * column, &sum, 4);
        }
    }
}

}  // namespace emulated_tiles

#undef _tile_loadconfig
#undef _tile_storeconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig emulated_tiles::load_configuration
#define _tile_storeconfig emulated_tiles::store_configuration
#define _tile_release() emulated_tiles::configuration = {}
#define _tile_zero emulated_tiles::zero
#define _tile_loadd emulated_tiles::load
#define _tile_stored emulated_tiles::store
#define _tile_dpbf16ps emulated_tiles::multiply_add
