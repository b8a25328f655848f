// SPDX-License-Identifier: Apache-2.0
#include "offer.hpp"

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "../runtime/thread_memory.hpp"
#include "ggml.h"
#include "packed_weights.hpp"

// Declared in llama.cpp's src/llama-model.h.
const std::vector<std::pair<std::string, ggml_tensor *>> & llama_internal_get_tensor_map(const llama_model * model);

namespace embellama::encoder {

namespace {

EMBELLAMA_THREAD_LOCAL const Offer * current_offer = nullptr;

}  // namespace

bool claims(const char * architecture) { return strcmp(architecture, "bert") == 0; }

const Kernels * kernels_of(const llama_model * model) {
    for (const auto & [name, tensor] : llama_internal_get_tensor_map(model)) {
        if (const Kernels * kernels = kernels_of(tensor)) {
            return kernels;
        }
    }
    return nullptr;
}

Offer::Offer(const Kernels * kernels, bool mapped) : kernels(kernels), mapped(mapped), outer(current_offer) {
    current_offer = kernels ? this : nullptr;
}

Offer::~Offer() { current_offer = outer; }

const Offer * Offer::current() { return current_offer; }

}  // namespace embellama::encoder
