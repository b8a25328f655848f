// SPDX-License-Identifier: Apache-2.0
#include "exact_copy.hpp"

#include <array>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <utility>

#include "../encoder/instruction_sets.hpp"
#include "guarded.hpp"

namespace embellama {

namespace {

// A model computes without its vocabulary, and of a large one that would be most of the time to load.
std::array<llama_model_kv_override, 3> without_vocabulary(int32_t n_tokens) {
    std::array<llama_model_kv_override, 3> overrides = {};
    overrides[0].tag = LLAMA_KV_OVERRIDE_TYPE_STR;
    snprintf(overrides[0].key, sizeof overrides[0].key, "tokenizer.ggml.model");
    snprintf(overrides[0].val_str, sizeof overrides[0].val_str, "no_vocab");
    overrides[1].tag = LLAMA_KV_OVERRIDE_TYPE_INT;
    snprintf(overrides[1].key, sizeof overrides[1].key, "bert.vocab_size");
    overrides[1].val_i64 = n_tokens;
    return overrides;
}

}  // namespace

ExactCopy * ExactCopy::of(const llama_model * model, const char * path, llama_model_params params) {
    encoder::SensitiveNeurons neurons(model);
    if (neurons.empty()) {
        return nullptr;
    }
    std::unique_ptr<ExactCopy> copy(new ExactCopy(std::move(neurons)));
    const llama_vocab * vocabulary = llama_model_get_vocab(model);
    const auto overrides = without_vocabulary(llama_vocab_n_tokens(vocabulary));
    // The graph reads the separator of a WordPiece vocabulary (src/models/bert.cpp).
    if (llama_vocab_type(vocabulary) != LLAMA_VOCAB_TYPE_WPM) {
        params.kv_overrides = overrides.data();
    }
    // What else is to be said of the file was said when it was loaded first.
    const OnlyErrors only_errors;
    copy->model_ = load_model(path, params, encoder::choose_kernels("", true));
    if (!copy->model_) {
        throw std::runtime_error(take_errors());
    }
    return copy.release();
}

ExactCopy::~ExactCopy() {
    if (model_) {
        llama_model_free(model_);
    }
}

}  // namespace embellama
