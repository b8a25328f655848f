// SPDX-License-Identifier: Apache-2.0
// The peak of one core: products of registers, with nothing read from memory. Prints one line per
// instruction set, in GFLOP/s: the best of many short runs, because other programs use the machine
// too.
#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

namespace {

constexpr int SUMS = 12;  // independent sums, enough to hide the latency of the instructions
constexpr int ROUNDS = 50000;

template <typename Step>
double best_rate(int operations_per_step, Step step) {
    double best = 0;
    for (int run = 0; run < 200; run++) {
        const auto start = std::chrono::steady_clock::now();
        step();
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        best = std::max(best, 1e-9 * operations_per_step * SUMS * ROUNDS / seconds.count());
    }
    return best;
}

#define REPEAT(instruction)                                                                               \
    instruction "0\n" instruction "1\n" instruction "2\n" instruction "3\n" instruction "4\n" instruction \
                "5\n" instruction "6\n" instruction "7\n" instruction "8\n" instruction "9\n" instruction \
                "10\n" instruction "11\n"

#define LOOP(instruction)                                                                                           \
    [] {                                                                                                            \
        long rounds = ROUNDS;                                                                                       \
        __asm__ volatile("1:\n" REPEAT(instruction) "dec %0\njnz 1b\n"                                              \
                         : "+r"(rounds)                                                                             \
                         :                                                                                          \
                         : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
                           "xmm11");                                                                                \
    }

}  // namespace

int main() {
    if (__builtin_cpu_supports("fma")) {
        printf("avx2 %.0f\n", best_rate(16, LOOP("vfmadd231ps %%ymm14, %%ymm15, %%ymm")));
    }
    if (__builtin_cpu_supports("avx512f")) {
        printf("avx512 %.0f\n", best_rate(32, LOOP("vfmadd231ps %%zmm14, %%zmm15, %%zmm")));
    }
    if (__builtin_cpu_supports("avx512bf16")) {
        printf("avx512_bf16 %.0f\n", best_rate(64, LOOP("vdpbf16ps %%zmm14, %%zmm15, %%zmm")));
    }
}
