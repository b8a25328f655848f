// SPDX-License-Identifier: Apache-2.0
// The instruction sets that code is compiled for, and whether they may be used. A set may be used
// if the processor has it, the hypervisor shows it and the kernel saves its registers. The name of
// the processor is never used to decide.
#pragma once

namespace embellama {

// In ascending order. Code for a set may use all sets before it, except AVX_VNNI, which some
// processors with AVX-512 lack.
enum class InstructionSet : int {
    GENERIC,  // x86-64-v2 (SSE4.2), or ARMv8.0 with NEON
#if defined(__x86_64__)
    AVX2,  // and FMA, F16C, BMI2
    AVX_VNNI,
    AVX512,       // F, BW, DQ, VL
    AVX512_VNNI,  // and VBMI
    AVX512_BF16,
    AMX,  // tiles of bfloat16 and of bytes, and AVX-512's FP16
#elif defined(__aarch64__)
    DOTPROD,  // and arithmetic in float16
    I8MM,
#endif
    COUNT
};

constexpr int N_INSTRUCTION_SETS = static_cast<int>(InstructionSet::COUNT);

// The name of a set, as users write it.
const char * name_of(InstructionSet set);

// Null if the set may be used, else a sentence that says what is missing. This does not ask the
// kernel for AMX's tiles; tiles_refused() does.
const char * missing(InstructionSet set);

// The set that this build's own baseline needs (meson's option `cpu`).
InstructionSet compiled_for();

// Whether a product of bfloat16 is faster than one of float32 without tiles.
bool has_fast_bfloat16();

// Null if this process may use AMX's tiles, else a sentence that says why not. The first call asks
// the kernel.
const char * tiles_refused();

}  // namespace embellama
