// SPDX-License-Identifier: Apache-2.0
// Makes the tile instructions of AMX run on processors without them: each raises SIGILL, is decoded
// from its machine code and carried out in plain C++. What is tested is thus the object code as it
// is shipped. After Intel's Architecture Instruction Set Extensions Programming Reference, chapter
// 3; what raises #GP or #UD there ends the program.
#include "trapped_tiles.hpp"

#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

// The operand of LDTILECFG and STTILECFG.
struct Configuration {
    uint8_t palette;
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t bytes_per_row[16];
    uint8_t rows[16];
};

thread_local Configuration configuration = {};
thread_local uint32_t tiles[8][16][16];
std::atomic<long> n_loaded{0};
std::atomic<int> n_threads_with_tiles{0};

void require(bool condition, const char * what) {
    if (!condition) {
        const char prefix[] = "invalid tile instruction: ";
        (void)!write(STDERR_FILENO, prefix, sizeof prefix - 1);
        (void)!write(STDERR_FILENO, what, strlen(what));
        (void)!write(STDERR_FILENO, "\n", 1);
        _exit(1);
    }
}

void require_tile(int tile) {
    require(configuration.palette == 1 && configuration.rows[tile] > 0, "a tile that is not configured");
}

void load_configuration(const char * source) {
    Configuration next;
    memcpy(&next, source, sizeof next);
    require(next.palette <= 1 && next.start_row == 0, "palette or first row");
    for (const uint8_t byte : next.reserved) {
        require(byte == 0, "reserved bytes");
    }
    for (int tile = 0; tile < 16; tile++) {
        const int rows = next.rows[tile], bytes = next.bytes_per_row[tile];
        require(rows <= 16 && bytes <= 64 && (rows == 0) == (bytes == 0), "a tile's size");
        require(tile < 8 || rows == 0, "a tile that does not exist");
    }
    n_loaded++;
    n_threads_with_tiles += next.palette - configuration.palette;
    configuration = next.palette ? next : Configuration{};
    memset(tiles, 0, sizeof tiles);
}

void load_tile(int tile, const char * base, uint64_t stride) {
    require_tile(tile);
    memset(tiles[tile], 0, sizeof tiles[tile]);
    for (int row = 0; row < configuration.rows[tile]; row++) {
        memcpy(tiles[tile][row], base + row * stride, configuration.bytes_per_row[tile]);
    }
}

void store_tile(int tile, char * base, uint64_t stride) {
    require_tile(tile);
    for (int row = 0; row < configuration.rows[tile]; row++) {
        memcpy(base + row * stride, tiles[tile][row], configuration.bytes_per_row[tile]);
    }
}

float from_word(uint32_t word) {
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

void require_product(int sums, int left, int right) {
    require_tile(sums);
    require_tile(left);
    require_tile(right);
    require(sums != left && left != right && sums != right, "one tile twice");
    require(configuration.rows[left] == configuration.rows[sums] &&
                configuration.bytes_per_row[left] == 4 * configuration.rows[right] &&
                configuration.bytes_per_row[right] == configuration.bytes_per_row[sums],
            "sizes that do not fit");
}

// The products of first and of second values are summed apart, and added to the sum in the end.
void multiply_tiles(int sums, int left, int right) {
    require_product(sums, left, right);
    const int rows = configuration.rows[sums], columns = configuration.bytes_per_row[sums] / 4;
    const int depth = configuration.rows[right];
    for (int row = 0; row < rows; row++) {
        for (int column = 0; column < columns; column++) {
            float even = 0, odd = 0;
            for (int k = 0; k < depth; k++) {
                const uint32_t a = tiles[left][row][k], b = tiles[right][k][column];
                even = std::fma(from_word(a << 16), from_word(b << 16), even);
                odd = std::fma(from_word(a & 0xffff0000), from_word(b & 0xffff0000), odd);
            }
            const float sum = from_word(tiles[sums][row][column]) + (even + odd);
            memcpy(&tiles[sums][row][column], &sum, sizeof sum);
        }
    }
}

// TDPBSSD and its kin: four bytes of a line with four of a column, added to a sum of 32 bits that wraps.
void multiply_byte_tiles(int sums, int left, int right, bool left_signed, bool right_signed) {
    require_product(sums, left, right);
    const int rows = configuration.rows[sums], columns = configuration.bytes_per_row[sums] / 4;
    const auto byte = [](uint32_t word, int index, bool is_signed) {
        const uint8_t value = static_cast<uint8_t>(word >> 8 * index);
        return is_signed ? static_cast<int32_t>(static_cast<int8_t>(value)) : static_cast<int32_t>(value);
    };
    for (int row = 0; row < rows; row++) {
        for (int column = 0; column < columns; column++) {
            uint32_t sum = tiles[sums][row][column];
            for (int k = 0; k < configuration.rows[right]; k++) {
                for (int index = 0; index < 4; index++) {
                    sum += static_cast<uint32_t>(byte(tiles[left][row][k], index, left_signed) *
                                                 byte(tiles[right][k][column], index, right_signed));
                }
            }
            tiles[sums][row][column] = sum;
        }
    }
}

// ModRM's memory operand.
struct Operand {
    char * base;
    uint64_t stride = 0;
    bool has_index = false;
    size_t length = 1;  // of ModRM and what belongs to it
};

Operand operand_of(const uint8_t * modrm, bool b, bool x, const greg_t * registers) {
    static const int NUMBERED[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                   REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    const int mode = modrm[0] >> 6;
    int base = modrm[0] & 7;
    Operand operand{};
    operand.length = 1;
    if (base == 4) {
        const uint8_t sib = modrm[1];
        const int index = (sib >> 3 & 7) | (x ? 8 : 0);
        operand.has_index = true;
        operand.length = 2;
        base = sib & 7;
        if (index != 4) {
            operand.stride = static_cast<uint64_t>(registers[NUMBERED[index]]) << (sib >> 6);
        }
    }
    require(mode != 0 || base != 5, "an address without a base is not decoded here");
    int64_t displacement = 0;
    if (mode == 1) {
        displacement = static_cast<int8_t>(modrm[operand.length]);
        operand.length += 1;
    } else if (mode == 2) {
        int32_t value;
        memcpy(&value, modrm + operand.length, sizeof value);
        displacement = value;
        operand.length += sizeof value;
    }
    operand.base = reinterpret_cast<char *>(registers[NUMBERED[base | (b ? 8 : 0)]] + displacement);
    return operand;
}

// VEX.128.pp.0F38.W0 opcode ModRM.
void carry_out(int, siginfo_t *, void * context) {
    greg_t * registers = static_cast<ucontext_t *>(context)->uc_mcontext.gregs;
    const uint8_t * code = reinterpret_cast<const uint8_t *>(registers[REG_RIP]);
    enum Prefix { NONE, P66, PF3, PF2 };
    const int prefix = code[2] & 3, opcode = code[3], vector = ~(code[2] >> 3) & 15;
    const uint8_t * modrm = code + 4;
    const int reg = modrm[0] >> 3 & 7, rm = modrm[0] & 7;
    const bool in_registers = modrm[0] >> 6 == 3;
    require(code[0] == 0xc4 && (code[1] & 0x9f) == 0x82 && (code[2] & 0x84) == 0, "another instruction");
    Operand operand{};
    operand.length = 1;
    if (!in_registers) {
        operand = operand_of(modrm, !(code[1] >> 5 & 1), !(code[1] >> 6 & 1), registers);
    }
    char * memory = operand.base + (in_registers ? 0 : operand.stride);
    if (opcode == 0x49 && in_registers && prefix == NONE) {  // TILERELEASE
        n_threads_with_tiles -= configuration.palette;
        configuration = {};
    } else if (opcode == 0x49 && in_registers && prefix == PF2) {  // TILEZERO
        require_tile(reg);
        memset(tiles[reg], 0, sizeof tiles[reg]);
    } else if (opcode == 0x49 && prefix == NONE) {
        load_configuration(memory);
    } else if (opcode == 0x49 && prefix == P66) {
        memcpy(memory, &configuration, sizeof configuration);
    } else if (opcode == 0x4b && operand.has_index && prefix == PF2) {
        load_tile(reg, operand.base, operand.stride);
    } else if (opcode == 0x4b && operand.has_index && prefix == PF3) {
        store_tile(reg, operand.base, operand.stride);
    } else if (opcode == 0x5c && in_registers && prefix == PF3 && vector < 8) {  // TDPBF16PS
        multiply_tiles(reg, rm, vector);
    } else if (opcode == 0x5e && in_registers && vector < 8) {  // TDPBSSD, TDPBSUD, TDPBUSD, TDPBUUD
        multiply_byte_tiles(reg, rm, vector, prefix == PF2 || prefix == PF3, prefix == PF2 || prefix == P66);
    } else {
        require(false, "another instruction");
    }
    registers[REG_RIP] += static_cast<greg_t>(4 + operand.length);
}

__attribute__((constructor)) void trap() {
    struct sigaction action = {};
    action.sa_sigaction = carry_out;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGILL, &action, nullptr);
}

}  // namespace

long loaded_configurations() { return n_loaded; }

int threads_with_tiles() { return n_threads_with_tiles; }
