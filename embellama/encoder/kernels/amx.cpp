// SPDX-License-Identifier: Apache-2.0
// AMX: tile registers that hold 16 lines of bfloat16, or sums of 16 x 16 float32.
//
// The tile instructions load the tiles and panels of kernels.hpp directly: 16 lines of a block, one
// after the other, and 16 words of 16 columns at a distance of 128 bytes.
#define EMBELLAMA_VECTOR_WIDTH 16

#include "bfloat16.hpp"
#include "table.hpp"

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

// Registers 0 to 3 hold sums (two blocks of rows times two halves of a panel), 4 and 5 hold rows,
// and 6 and 7 hold halves of a panel.
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
        multiply_one(tile, rows_per_block, n_lines, panel, sums, stride, [] {});
    }

    // `meanwhile` is called between two lines, because the vector units are idle while tiles
    // multiply.
    template <typename Meanwhile>
    EMBELLAMA_INLINE void multiply_one(const Value * tile, int rows_per_block, int n_lines, const Value * panel,
                                       float * sums, int stride, Meanwhile meanwhile) {
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
            meanwhile();
        }
        _tile_stored(0, sums, stride * sizeof(float));
        _tile_stored(1, sums + 16, stride * sizeof(float));
        memory_barrier();
    }

    // Two neighbouring blocks, which share the loads of the panel.
    template <typename Meanwhile>
    EMBELLAMA_INLINE void multiply_two(const Value * tile, int rows_per_block, int n_lines, const Value * panel,
                                       float * sums, Meanwhile meanwhile) {
        const int line_size = rows_per_block * Number::VALUES_PER_LINE;
        const Value * second = tile + static_cast<size_t>(line_size) * n_lines;
        memory_barrier();
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (int line = 0; line < n_lines; line++) {
            _tile_loadd(4, tile, 64);
            _tile_loadd(6, panel, 128);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, panel + 32, 128);
            _tile_dpbf16ps(1, 4, 7);
            _tile_loadd(5, second, 64);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
            tile += line_size;
            second += line_size;
            panel += 16 * COLUMNS * 2;
            meanwhile();
        }
        float * lower = sums + rows_per_block * COLUMNS;
        _tile_stored(0, sums, COLUMNS * sizeof(float));
        _tile_stored(1, sums + 16, COLUMNS * sizeof(float));
        _tile_stored(2, lower, COLUMNS * sizeof(float));
        _tile_stored(3, lower + 16, COLUMNS * sizeof(float));
        memory_barrier();
    }
};

// Like multiply() of product.hpp, but with two blocks at a time; bias, activation and residual of
// two blocks are computed while the next two are summed.
void multiply_tiles(const Product & product, int first_panel, int last_panel, void *) {
    const Tiles & input = product.input;
    const int n_lines = product.weights.depth / Bfloat16::VALUES_PER_LINE;
    const size_t values_per_panel = static_cast<size_t>(product.weights.depth) * TileBlock::COLUMNS;
    const Chunks<Bfloat16> chunks(input);
    const int rows_per_block = chunks.rows_per_block;
    TileBlock block(rows_per_block);
    alignas(64) float sums[2][2 * TileBlock::ROWS * TileBlock::COLUMNS];
    // The rows in sums[pending] that are summed but not finished.
    int pending = 0, next_row = 0, n_left = 0, column = 0;
    float * unfinished = sums[0];
    const auto finish_rows = [&](int most) {
        const int n = smaller(most, n_left);
        finish<Bfloat16, TileBlock::COLUMNS>(product, next_row, n, column, unfinished);
        unfinished += n * TileBlock::COLUMNS;
        next_row += n;
        n_left -= n;
    };
    for (int chunk = 0; chunk < input.n_rows; chunk += chunks.rows_per_chunk) {
        const int end = smaller(chunk + chunks.rows_per_chunk, input.n_rows);
        for (int index = first_panel; index < last_panel; index++) {
            const uint16_t * panel = static_cast<const uint16_t *>(product.weights.panels) + index * values_per_panel;
            for (int first = chunk; first < end; first += 2 * rows_per_block) {
                const bool two = end - first > rows_per_block;
                const uint16_t * tile = line_of<Bfloat16>(input, first, 0);
                const int per_line = (n_left + n_lines - 1) / n_lines;
                const auto meanwhile = [&] { finish_rows(per_line); };
                pending = 1 - pending;
                if (two) {
                    block.multiply_two(tile, rows_per_block, n_lines, panel, sums[pending], meanwhile);
                } else {
                    block.multiply_one(tile, rows_per_block, n_lines, panel, sums[pending], TileBlock::COLUMNS,
                                       meanwhile);
                }
                unfinished = sums[pending];
                next_row = first;
                column = index * TileBlock::COLUMNS;
                n_left = smaller(two ? 2 * rows_per_block : rows_per_block, end - first);
            }
        }
    }
    finish_rows(n_left);
}

}  // namespace

namespace {

constexpr Kernels amx_table() {
    Kernels table = table_of<TileBlock>("amx", multiply_tiles);
    table.save_tiles = save_tiles;
    table.restore_tiles = restore_tiles;
    table.release_tiles = release_tiles;
    return table;
}

}  // namespace

const Kernels amx_kernels = amx_table();

}  // namespace embellama::encoder
