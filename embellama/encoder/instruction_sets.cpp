// SPDX-License-Identifier: Apache-2.0
#include "instruction_sets.hpp"

#include <cstring>
#include <mutex>

#include "self_check.hpp"

namespace embellama::encoder {

namespace {

InstructionSet limit = InstructionSet::GENERIC;

struct Candidate {
    const Kernels * kernels;
    InstructionSet needs;
    std::once_flag checked;
    bool usable = false, wrong = false;

    Candidate(const Kernels & kernels, InstructionSet needs) : kernels(&kernels), needs(needs) {}

    // The self-check computes something with the kernels, so it runs only when they are first
    // needed.
    void check() {
        std::call_once(checked, [this] {
            if (needs > limit || missing(needs)) {
                return;
            }
#if defined(__x86_64__)
            if (needs == InstructionSet::AMX && tiles_refused()) {
                return;
            }
#endif
            usable = agree(*kernels, generic_kernels);
            wrong = !usable;
        });
    }
};

// The fastest first.
std::vector<Candidate *> candidates() {
    static Candidate generic(generic_kernels, InstructionSet::GENERIC);
#if defined(__x86_64__)
    static Candidate avx2(avx2_kernels, InstructionSet::AVX2), avx512(avx512_kernels, InstructionSet::AVX512);
    static Candidate avx512_bf16(avx512_bf16_kernels, InstructionSet::AVX512_BF16);
    std::vector<Candidate *> sets = {&avx512, &avx2, &generic};
    sets.insert(has_fast_bfloat16() ? sets.begin() : sets.end(), &avx512_bf16);
#if !defined(EMBELLAMA_WITHOUT_AMX)
    static Candidate amx(amx_kernels, InstructionSet::AMX);
    sets.insert(sets.begin(), &amx);
#endif
    return sets;
#else
    return {&generic};
#endif
}

}  // namespace

void set_limit(InstructionSet set) { limit = set; }

std::vector<const Kernels *> available_kernels() {
    std::vector<const Kernels *> available;
    for (Candidate * candidate : candidates()) {
        candidate->check();
        if (candidate->usable) {
            available.push_back(candidate->kernels);
        }
    }
    return available;
}

std::vector<const Kernels *> refused_kernels() {
    std::vector<const Kernels *> refused;
    for (Candidate * candidate : candidates()) {
        candidate->check();
        if (candidate->wrong) {
            refused.push_back(candidate->kernels);
        }
    }
    return refused;
}

const Kernels * choose_kernels(const char * name, bool exact) {
    for (Candidate * candidate : candidates()) {
        const Kernels * kernels = candidate->kernels;
        if (*name ? strcmp(name, kernels->name) == 0 : kernels->exact || !exact) {
            candidate->check();
            if (candidate->usable) {
                return kernels;
            }
        }
    }
    return nullptr;
}

}  // namespace embellama::encoder
