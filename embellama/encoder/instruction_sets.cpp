// SPDX-License-Identifier: Apache-2.0
#include "instruction_sets.hpp"

#include <cstring>

#include "self_check.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace embellama::encoder {

namespace {

#if defined(__x86_64__)

// Bits of CPUID, named as in Intel's Architecture Instruction Set Extensions Programming Reference.
struct Cpuid {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;

    Cpuid(unsigned leaf, unsigned subleaf) { __get_cpuid_count(leaf, subleaf, &eax, &ebx, &ecx, &edx); }
};

bool bit(unsigned value, int position) { return value >> position & 1; }

// Registers that the operating system saves when it switches threads.
uint64_t saved_registers() {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return static_cast<uint64_t>(high) << 32 | low;
}

// Linux saves tiles only for a process that asked for it (Documentation/arch/x86/xstate.rst).
bool tiles_permitted() {
#if defined(__linux__)
    constexpr int ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return false;
#endif
}

struct Processor {
    bool avx2 = false;
    bool avx512 = false;
    bool avx512_bf16 = false;
    bool amx = false;
    bool amd = false;

    Processor() {
        const Cpuid vendor(0, 0), basic(1, 0), extended(7, 0), more(7, 1);
        amd = vendor.ebx == signature_AMD_ebx && vendor.ecx == signature_AMD_ecx && vendor.edx == signature_AMD_edx;
        if (!bit(basic.ecx, 27)) {  // OSXSAVE
            return;
        }
        const uint64_t saved = saved_registers();
        const bool fma = bit(basic.ecx, 12), f16c = bit(basic.ecx, 29);
        avx2 = (saved & 0x6) == 0x6 && bit(extended.ebx, 5) && fma && f16c;
        // F, DQ, BW, VL; XMM, YMM, the masks and both halves of ZMM.
        avx512 = avx2 && (saved & 0xe6) == 0xe6 && bit(extended.ebx, 16) && bit(extended.ebx, 17) &&
                 bit(extended.ebx, 30) && bit(extended.ebx, 31);
        avx512_bf16 = avx512 && extended.eax >= 1 && bit(more.eax, 5);
        // AMX-BF16 and AMX-TILE; the tiles' configuration and their data.
        amx = avx512_bf16 && bit(extended.edx, 22) && bit(extended.edx, 24) && (saved >> 17 & 3) == 3 &&
              tiles_permitted();
    }
};

// The fastest first.
std::vector<const Kernels *> claimed_kernels() {
    const Processor processor;
    std::vector<const Kernels *> found;
    if (processor.amx) {
        found.push_back(&amx_kernels);
    }
    // Zen 4 computes a dot product of bfloat16 as fast as a product of float32, so that it does
    // twice the work. Intel's cores that have it are slower with it than with float32 (measured on
    // Sapphire Rapids), for which reason it comes last there.
    if (processor.avx512_bf16 && processor.amd) {
        found.push_back(&avx512_bf16_kernels);
    }
    if (processor.avx512) {
        found.push_back(&avx512_kernels);
    }
    if (processor.avx2) {
        found.push_back(&avx2_kernels);
    }
    found.push_back(&generic_kernels);
    if (processor.avx512_bf16 && !processor.amd) {
        found.push_back(&avx512_bf16_kernels);
    }
    return found;
}

#else

std::vector<const Kernels *> claimed_kernels() { return {&generic_kernels}; }

#endif

struct CheckedKernels {
    std::vector<const Kernels *> available, refused;

    CheckedKernels() {
        for (const Kernels * kernels : claimed_kernels()) {
            (agree(*kernels, generic_kernels) ? available : refused).push_back(kernels);
        }
    }
};

const CheckedKernels & checked_kernels() {
    static const CheckedKernels kernels;
    return kernels;
}

}  // namespace

const std::vector<const Kernels *> & available_kernels() { return checked_kernels().available; }

const std::vector<const Kernels *> & refused_kernels() { return checked_kernels().refused; }

const Kernels * choose_kernels(const char * name, bool exact) {
    for (const Kernels * kernels : available_kernels()) {
        if (*name ? strcmp(name, kernels->name) == 0 : kernels->exact || !exact) {
            return kernels;
        }
    }
    return nullptr;
}

}  // namespace embellama::encoder
