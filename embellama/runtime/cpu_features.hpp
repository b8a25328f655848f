// SPDX-License-Identifier: Apache-2.0
// The instruction sets that code is compiled for, and what grants them. A set may be used where the
// processor has it, the hypervisor shows it and the kernel saves its registers; never because of
// the processor's name.
#pragma once

namespace embellama {

// From the least to the most. Code for a set may use all of those before it, AVX_VNNI apart: there
// are processors with AVX-512 and without it.
enum class InstructionSet : int {
    GENERIC,  // x86-64-v2 (SSE4.2), or ARMv8.0 with NEON
#if defined(__x86_64__)
    AVX2,  // and FMA, F16C, BMI2
    AVX_VNNI,
    AVX512,       // F, BW, DQ, VL
    AVX512_VNNI,  // and VBMI
    AVX512_BF16,
    AMX,  // tiles of bfloat16 and of bytes
#elif defined(__aarch64__)
    DOTPROD,  // and arithmetic in float16
    I8MM,
#endif
    COUNT
};

constexpr int N_INSTRUCTION_SETS = static_cast<int>(InstructionSet::COUNT);

// As users write it.
const char * name_of(InstructionSet set);

// Null where the set is granted; else a sentence that says what is missing. The kernel is not asked
// for AMX's tiles yet: tiles_refused().
const char * missing(InstructionSet set);

// The set that this build's own baseline needs (meson's option `cpu`).
InstructionSet compiled_for();

// Whether a product of bfloat16 is faster than one of float32 without tiles.
bool has_fast_bfloat16();

// Asks the kernel, the first time, whether this process may use AMX's tiles; null where it may, else
// a sentence that says why not.
const char * tiles_refused();

}  // namespace embellama
