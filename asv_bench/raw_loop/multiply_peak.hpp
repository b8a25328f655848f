// SPDX-License-Identifier: Apache-2.0
// The peak of one core: products of registers, with nothing read from memory.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "../../embellama/runtime/cpu_features.hpp"

// The best of many short runs, because other programs use the machine too.
template <typename Step>
double best_gflops(double operations, Step step) {
    double best = 0;
    for (int run = 0; run < 100; run++) {
        const auto start = std::chrono::steady_clock::now();
        step();
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        best = std::max(best, 1e-9 * operations / seconds.count());
    }
    return best;
}

// Sixteen rows of 64 bytes for each of the eight tiles (LDTILECFG).
struct alignas(64) TileSetup {
    unsigned char palette = 1;
    unsigned char zeros[15] = {};
    unsigned short bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    unsigned char rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

inline void configure_tiles() {
    const TileSetup setup;
    __asm__ volatile("ldtilecfg %0" : : "m"(setup));
}

// Operations of one product of tiles: 16 x 16 sums of 32 products.
constexpr double OPERATIONS_PER_TILE = 2.0 * 16 * 16 * 32;

struct Peak {
    std::string instruction_set;
    double gflops;
};

constexpr int PEAK_SUMS = 12;  // independent sums, enough to hide the latency of the instructions
constexpr int PEAK_ROUNDS = 50000;

#define REPEAT(instruction)                                                                               \
    instruction "0\n" instruction "1\n" instruction "2\n" instruction "3\n" instruction "4\n" instruction \
                "5\n" instruction "6\n" instruction "7\n" instruction "8\n" instruction "9\n" instruction \
                "10\n" instruction "11\n"

#define LOOP(instruction)                                                                                           \
    [] {                                                                                                            \
        long rounds = PEAK_ROUNDS;                                                                                  \
        __asm__ volatile("1:\n" REPEAT(instruction) "dec %0\njnz 1b\n"                                              \
                         : "+r"(rounds)                                                                             \
                         :                                                                                          \
                         : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
                           "xmm11");                                                                                \
    }

// One for each instruction set with instructions of its own.
inline std::vector<Peak> multiply_peaks() {
    using embellama::InstructionSet;
    constexpr double TIMES = 1.0 * PEAK_SUMS * PEAK_ROUNDS;
    std::vector<Peak> peaks;
    if (!missing(InstructionSet::AVX2)) {
        peaks.push_back({"avx2", best_gflops(16 * TIMES, LOOP("vfmadd231ps %%ymm14, %%ymm15, %%ymm"))});
    }
    if (!missing(InstructionSet::AVX512)) {
        peaks.push_back({"avx512", best_gflops(32 * TIMES, LOOP("vfmadd231ps %%zmm14, %%zmm15, %%zmm"))});
    }
    if (!missing(InstructionSet::AVX512_BF16)) {
        peaks.push_back({"avx512_bf16", best_gflops(64 * TIMES, LOOP("vdpbf16ps %%zmm14, %%zmm15, %%zmm"))});
    }
    if (!missing(InstructionSet::AMX) && !embellama::tiles_refused()) {
        configure_tiles();
        const auto step = [] {
            for (int i = 0; i < PEAK_ROUNDS; i++) {
                __asm__ volatile("tdpbf16ps %tmm6, %tmm4, %tmm0\ntdpbf16ps %tmm7, %tmm4, %tmm1\n"
                                 "tdpbf16ps %tmm6, %tmm5, %tmm2\ntdpbf16ps %tmm7, %tmm5, %tmm3\n");
            }
        };
        peaks.push_back({"amx", best_gflops(4 * OPERATIONS_PER_TILE * PEAK_ROUNDS, step)});
        __asm__ volatile("tilerelease");
    }
    return peaks;
}

#undef REPEAT
#undef LOOP
