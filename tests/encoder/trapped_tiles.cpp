// SPDX-License-Identifier: Apache-2.0
// Makes the tile instructions of AMX, and those of AVX512-FP16 that the encoder uses, run on
// processors without them: each raises SIGILL, is decoded from its machine code and carried out in
// plain C++. What is tested is thus the object code as it is shipped. After Intel's Architecture
// Instruction Set Extensions Programming Reference, chapter 3 (tiles) and 5 (AVX512-FP16); what
// raises #GP or #UD there ends the program.
#include "trapped_tiles.hpp"

#include <cpuid.h>
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

// A displacement of one byte counts in units of `unit` bytes.
Operand operand_of(const uint8_t * modrm, bool b, bool x, int unit, const greg_t * registers) {
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
        displacement = static_cast<int8_t>(modrm[operand.length]) * unit;
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

enum Prefix { NONE, P66, PF3, PF2 };

// VEX.128.pp.0F38.W0 opcode ModRM.
void carry_out_tiles(greg_t * registers) {
    const uint8_t * code = reinterpret_cast<const uint8_t *>(registers[REG_RIP]);
    const int prefix = code[2] & 3, opcode = code[3], vector = ~(code[2] >> 3) & 15;
    const uint8_t * modrm = code + 4;
    const int reg = modrm[0] >> 3 & 7, rm = modrm[0] & 7;
    const bool in_registers = modrm[0] >> 6 == 3;
    require(code[0] == 0xc4 && (code[1] & 0x9f) == 0x82 && (code[2] & 0x84) == 0, "another instruction");
    Operand operand{};
    operand.length = 1;
    if (!in_registers) {
        operand = operand_of(modrm, !(code[1] >> 5 & 1), !(code[1] >> 6 & 1), 1, registers);
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
    } else if (opcode == 0x4b && operand.has_index && (prefix == PF2 || prefix == P66)) {  // and TILELOADDT1
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

// The vector registers of the interrupted thread, in the frame of the signal: an XSAVE area in the
// standard format (Intel's Software Developer's Manual, volume 1, 13.4; Linux's sigcontext.h).
class VectorRegisters {
public:
    explicit VectorRegisters(ucontext_t * context) : area(reinterpret_cast<char *>(context->uc_mcontext.fpregs)) {}

    void load(int number, uint8_t (&bytes)[64]) { move(number, bytes, false); }
    void store(int number, uint8_t (&bytes)[64]) { move(number, bytes, true); }

private:
    enum Component { SSE = 1, AVX = 2, UPPER_HALVES = 6, UPPER_REGISTERS = 7 };

    void move(int number, uint8_t * bytes, bool into_frame) {
        if (number >= 16) {
            return move_part(UPPER_REGISTERS, number - 16, bytes, 64, into_frame);
        }
        move_part(SSE, number, bytes, 16, into_frame);
        move_part(AVX, number, bytes + 16, 16, into_frame);
        move_part(UPPER_HALVES, number, bytes + 32, 32, into_frame);
    }

    // A component whose bit is not set is zeros, whatever the frame holds.
    void move_part(Component component, int index, uint8_t * bytes, size_t size, bool into_frame) {
        uint64_t present;
        memcpy(&present, area + 512, sizeof present);
        char * part = area + 160;
        if (component != SSE) {
            unsigned length = 0, offset = 0, ecx, edx;
            __get_cpuid_count(0xd, component, &length, &offset, &ecx, &edx);
            require(length >= 16 * size, "a signal frame without the vector registers");
            part = area + offset;
        }
        if (into_frame && !(present >> component & 1)) {
            memset(part, 0, 16 * size);
            present |= 1ull << component;
            memcpy(area + 512, &present, sizeof present);
        }
        part += index * size;
        if (into_frame) {
            memcpy(part, bytes, size);
        } else if (present >> component & 1) {
            memcpy(bytes, part, size);
        } else {
            memset(bytes, 0, size);
        }
    }

    char * area;
};

// Rounds once: the products and sums of a few float16 are exact in double, or nearly so.
_Float16 half_of(double x) { return static_cast<_Float16>(x); }

// VMAXPH returns the second operand if one is NaN. `old` is what the target held.
double operation_on(int map, int prefix, int opcode, double old, double first, double second) {
    if (map == 5 && prefix == NONE) {
        switch (opcode) {
            case 0x5c:
                return first - second;
            case 0x5f:
                return first > second ? first : second;
        }
    } else if (map == 6 && prefix == P66) {
        switch (opcode) {
            case 0x2c:  // VSCALEFPH
                if (std::isnan(second)) {
                    return second;
                }
                return std::isinf(second) ? (second > 0 ? first * INFINITY : first * 0)
                                          : std::ldexp(first, static_cast<int>(std::floor(second)));
            case 0x98:
                return std::fma(old, second, first);
            case 0xa8:
                return std::fma(first, old, second);
            case 0xb8:
                return std::fma(first, second, old);
        }
    } else if (map == 3 && prefix == NONE && opcode == 0x08) {  // VRNDSCALEPH to the nearest integer
        return std::nearbyint(second);
    }
    require(false, "another instruction");
    return 0;
}

// EVEX.512.pp.map.W0 opcode ModRM, without a mask.
void carry_out_vectors(ucontext_t * context) {
    greg_t * registers = context->uc_mcontext.gregs;
    const uint8_t * code = reinterpret_cast<const uint8_t *>(registers[REG_RIP]);
    const int map = code[1] & 7, prefix = code[2] & 3, opcode = code[4];
    const bool broadcast = code[3] & 0x10;
    require((code[1] & 8) == 0 && (code[2] & 0x84) == 4 && (code[3] & 0xe7) == 0x40, "another instruction");
    const bool narrows = map == 5 && prefix == P66 && opcode == 0x1d;  // VCVTPS2PHX
    const bool widens = map == 6 && prefix == P66 && opcode == 0x13;   // VCVTPH2PSX
    const uint8_t * modrm = code + 5;
    const auto inverted = [](uint8_t byte, int position) { return ~byte >> position & 1; };
    const int target = (modrm[0] >> 3 & 7) | inverted(code[1], 7) << 3 | inverted(code[1], 4) << 4;
    const int first = (~code[2] >> 3 & 15) | inverted(code[3], 3) << 4;
    const int n_bytes = widens ? 32 : 64, size = narrows ? 4 : 2, n_immediate = map == 3;
    VectorRegisters vectors(context);
    uint8_t sources[3][64];  // the target, and two operands
    vectors.load(target, sources[0]);
    vectors.load(first, sources[1]);
    size_t length = 1;
    if (modrm[0] >> 6 == 3) {
        require(!broadcast, "a rounding mode");
        vectors.load((modrm[0] & 7) | inverted(code[1], 5) << 3 | inverted(code[1], 6) << 4, sources[2]);
    } else {
        const char * memory;
        if (modrm[0] >> 6 == 0 && (modrm[0] & 7) == 5) {  // relative to the next instruction
            int32_t displacement;
            memcpy(&displacement, modrm + 1, sizeof displacement);
            length = 5;
            memory = reinterpret_cast<const char *>(modrm) + length + n_immediate + displacement;
        } else {
            const Operand operand =
                operand_of(modrm, inverted(code[1], 5), inverted(code[1], 6), broadcast ? size : n_bytes, registers);
            length = operand.length;
            memory = operand.base + operand.stride;
        }
        for (int i = 0; i < n_bytes; i += size) {
            memcpy(sources[2] + i, memory + (broadcast ? 0 : i), size);
        }
    }
    require(map != 3 || modrm[length] == 0, "another rounding");
    _Float16 halves[3][32];
    memcpy(halves, sources, sizeof halves);
    float floats[16];
    memcpy(floats, sources[2], sizeof floats);
    uint8_t result[64] = {};
    if (narrows) {
        for (int i = 0; i < 16; i++) {
            halves[0][i] = half_of(floats[i]);
        }
        memcpy(result, halves[0], 32);
    } else if (widens) {
        for (int i = 0; i < 16; i++) {
            floats[i] = static_cast<float>(halves[2][i]);
        }
        memcpy(result, floats, 64);
    } else {
        for (int i = 0; i < 32; i++) {
            halves[0][i] = half_of(operation_on(map, prefix, opcode, static_cast<double>(halves[0][i]),
                                                static_cast<double>(halves[1][i]), static_cast<double>(halves[2][i])));
        }
        memcpy(result, halves[0], 64);
    }
    vectors.store(target, result);
    registers[REG_RIP] += static_cast<greg_t>(5 + length + n_immediate);
}

void carry_out(int, siginfo_t *, void * context) {
    ucontext_t * interrupted = static_cast<ucontext_t *>(context);
    greg_t * registers = interrupted->uc_mcontext.gregs;
    if (*reinterpret_cast<const uint8_t *>(registers[REG_RIP]) == 0x62) {
        carry_out_vectors(interrupted);
    } else {
        carry_out_tiles(registers);
    }
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
