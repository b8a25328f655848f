// SPDX-License-Identifier: Apache-2.0
// What our libraries need of llama.cpp to be linked. None of it is called, and llama.cpp takes minutes to
// compile with a sanitizer.
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "ggml.h"

struct llama_model;

const std::vector<std::pair<std::string, ggml_tensor *>> & llama_internal_get_tensor_map(const llama_model *) {
    abort();
}

extern "C" void llama_log_set(ggml_log_callback, void *) { abort(); }
