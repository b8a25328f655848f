// SPDX-License-Identifier: Apache-2.0
#include "visibility.hpp"

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

EMBELLAMA_THREAD_LOCAL const EncoderVisibility * current_visibility = nullptr;

}  // namespace

bool supports(const char * architecture) { return strcmp(architecture, "bert") == 0; }

const Kernels * kernels_of(const llama_model * model) {
    for (const auto & [name, tensor] : llama_internal_get_tensor_map(model)) {
        if (const Kernels * kernels = kernels_of(tensor)) {
            return kernels;
        }
    }
    return nullptr;
}

EncoderVisibility::EncoderVisibility(const Kernels * kernels, bool mapped)
    : kernels(kernels),
      mapped(mapped),
      outer(current_visibility) {
    current_visibility = kernels ? this : nullptr;
}

EncoderVisibility::~EncoderVisibility() { current_visibility = outer; }

const EncoderVisibility * EncoderVisibility::current() { return current_visibility; }

}  // namespace embellama::encoder
