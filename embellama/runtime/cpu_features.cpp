// SPDX-License-Identifier: Apache-2.0
#include "cpu_features.hpp"

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace embellama {

namespace {

constexpr int index_of(InstructionSet set) { return static_cast<int>(set); }

#if defined(__x86_64__)

constexpr const char * NAMES[] = {"generic", "avx2", "avx_vnni", "avx512", "avx512_vnni", "avx512_bf16", "amx"};

// Bits of CPUID, named as in Intel's Architecture Instruction Set Extensions Programming Reference.
struct Cpuid {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;

    Cpuid(unsigned leaf, unsigned subleaf) { __get_cpuid_count(leaf, subleaf, &eax, &ebx, &ecx, &edx); }
};

bool bit(unsigned value, int position) { return value >> position & 1; }

// Registers that the operating system saves when it switches threads (XCR0).
uint64_t saved_registers() {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return static_cast<uint64_t>(high) << 32 | low;
}

constexpr uint64_t SAVED_YMM = 0x6;           // XMM and YMM
constexpr uint64_t SAVED_ZMM = 0xe6;          // and the masks and both halves of ZMM
constexpr uint64_t SAVED_TILES = 3ull << 17;  // the tiles' configuration and their data

struct Features {
    const char * missing[N_INSTRUCTION_SETS] = {};
    bool is_amd = false;

    Features() {
        const Cpuid vendor(0, 0), basic(1, 0), extended(7, 0);
        // Subleaf 1 exists only if subleaf 0 says so; otherwise its bits mean nothing.
        const Cpuid more(7, extended.eax >= 1 ? 1 : 0);
        const unsigned more_eax = extended.eax >= 1 ? more.eax : 0;
        is_amd = vendor.ebx == signature_AMD_ebx && vendor.ecx == signature_AMD_ecx && vendor.edx == signature_AMD_edx;
        const uint64_t saved = bit(basic.ecx, 27) ? saved_registers() : 0;  // OSXSAVE
        // SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT.
        require(InstructionSet::GENERIC, (basic.ecx & 0x982201) == 0x982201, "the processor lacks SSE4.2 or POPCNT");
        // AVX, AVX2, FMA, F16C, BMI2.
        require(InstructionSet::AVX2,
                bit(basic.ecx, 28) && bit(extended.ebx, 5) && bit(basic.ecx, 12) && bit(basic.ecx, 29) &&
                    bit(extended.ebx, 8),
                "the processor lacks AVX2, FMA, F16C or BMI2");
        require(InstructionSet::AVX2, (saved & SAVED_YMM) == SAVED_YMM, "the kernel does not save AVX's registers");
        require(InstructionSet::AVX_VNNI, bit(more_eax, 4), "the processor lacks AVX-VNNI");
        require(InstructionSet::AVX512,
                bit(extended.ebx, 16) && bit(extended.ebx, 17) && bit(extended.ebx, 30) && bit(extended.ebx, 31),
                "the processor lacks AVX-512 (F, DQ, BW, VL)");
        require(InstructionSet::AVX512, (saved & SAVED_ZMM) == SAVED_ZMM,
                "the kernel does not save AVX-512's registers");
        require(InstructionSet::AVX512_VNNI, bit(extended.ecx, 11) && bit(extended.ecx, 1),
                "the processor lacks AVX-512's VNNI or VBMI");
        require(InstructionSet::AVX512_BF16, bit(more_eax, 5), "the processor lacks AVX-512's BF16");
#if defined(EMBELLAMA_WITHOUT_AMX)
        require(InstructionSet::AMX, false, "the compiler of this build does not know AVX-512's FP16");
#endif
        // AMX-BF16, AMX-TILE, AMX-INT8, AVX512-FP16.
        require(InstructionSet::AMX,
                bit(extended.edx, 22) && bit(extended.edx, 24) && bit(extended.edx, 25) && bit(extended.edx, 23),
                "the processor lacks AMX or AVX-512's FP16");
        require(InstructionSet::AMX, (saved & SAVED_TILES) == SAVED_TILES, "the kernel does not save AMX's tiles");
        for (int set = 1; set < N_INSTRUCTION_SETS; set++) {
            const int base = set == index_of(InstructionSet::AVX512) ? index_of(InstructionSet::AVX2) : set - 1;
            if (missing[base]) {
                missing[set] = missing[base];
            }
        }
    }

    void require(InstructionSet set, bool present, const char * otherwise) {
        if (!present && !missing[index_of(set)]) {
            missing[index_of(set)] = otherwise;
        }
    }
};

#elif defined(__aarch64__)

constexpr const char * NAMES[] = {"generic", "dotprod", "i8mm"};

#if defined(__APPLE__)
// From macOS's page "Determining instruction set characteristics".
bool sysctl_says(const char * name) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value;
}
#endif

struct Features {
    const char * missing[N_INSTRUCTION_SETS] = {};
    bool is_amd = false;

    Features() {
#if defined(__linux__)
        // Bits of AT_HWCAP and AT_HWCAP2 (Linux, Documentation/arch/arm64/elf_hwcaps.rst).
        constexpr unsigned long FPHP = 1ul << 9, ASIMDHP = 1ul << 10, ASIMDDP = 1ul << 20, I8MM2 = 1ul << 13;
        const unsigned long wanted = FPHP | ASIMDHP | ASIMDDP;
        const bool dotprod = (getauxval(AT_HWCAP) & wanted) == wanted;
        const bool i8mm = dotprod && (getauxval(AT_HWCAP2) & I8MM2);
#elif defined(__APPLE__)
        const bool dotprod = sysctl_says("hw.optional.arm.FEAT_DotProd") && sysctl_says("hw.optional.arm.FEAT_FP16");
        const bool i8mm = dotprod && sysctl_says("hw.optional.arm.FEAT_I8MM");
#else
        const bool dotprod = false, i8mm = false;
#endif
        missing[index_of(InstructionSet::DOTPROD)] =
            dotprod ? nullptr : "the processor lacks dot products or arithmetic in float16";
        missing[index_of(InstructionSet::I8MM)] =
            i8mm ? nullptr : "the processor lacks products of byte matrices (I8MM)";
    }
};

#else

constexpr const char * NAMES[] = {"generic"};

struct Features {
    const char * missing[N_INSTRUCTION_SETS] = {};
    bool is_amd = false;
};

#endif

static_assert(sizeof NAMES / sizeof *NAMES == N_INSTRUCTION_SETS, "each instruction set has a name");

const Features & features() {
    static const Features found;
    return found;
}

}  // namespace

const char * name_of(InstructionSet set) { return NAMES[index_of(set)]; }

const char * missing(InstructionSet set) { return features().missing[index_of(set)]; }

InstructionSet compiled_for() {
#if defined(__AVX512BF16__) && defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
    return InstructionSet::AVX512_BF16;
#elif defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
    return InstructionSet::AVX512_VNNI;
#elif defined(__AVX512F__)
    return InstructionSet::AVX512;
#elif defined(__AVXVNNI__)
    return InstructionSet::AVX_VNNI;
#elif defined(__AVX2__)
    return InstructionSet::AVX2;
#elif defined(__ARM_FEATURE_MATMUL_INT8)
    return InstructionSet::I8MM;
#elif defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
    return InstructionSet::DOTPROD;
#else
    return InstructionSet::GENERIC;
#endif
}

// Zen 4 computes a dot-product instruction of bfloat16 as fast as a multiplication of float32, and
// so does twice the work in the same time. Intel's cores with this instruction are slower with it
// than with float32 (measured on Sapphire Rapids).
bool has_fast_bfloat16() { return features().is_amd; }

const char * tiles_refused() {
#if defined(__x86_64__) && defined(__linux__)
    struct Answer {
        char reason[160] = "";

        Answer() {
            // Linux saves tiles only for a process that has asked for them
            // (Documentation/arch/x86/xstate.rst).
            constexpr int ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
            if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) != 0) {
                const int error = errno;
                snprintf(reason, sizeof reason, "the kernel refuses AMX's tiles: %s%s", strerror(error),
                         error == ENOSPC ? " (a thread's alternate signal stack is too small for them)" : "");
            }
        }
    };
    static const Answer answer;
    return *answer.reason ? answer.reason : nullptr;
#else
    return "AMX is used on Linux only";
#endif
}

}  // namespace embellama
