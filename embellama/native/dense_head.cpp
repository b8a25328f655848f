// SPDX-License-Identifier: Apache-2.0
#include "dense_head.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "ggml-backend.h"
#include "ggml.h"
#include "llama.h"

// Declared in llama.cpp's src/llama-model.h.
const std::vector<std::pair<std::string, ggml_tensor *>> & llama_internal_get_tensor_map(const llama_model * model);

namespace embellama {

namespace {

const ggml_tensor * tensor_of(const llama_model * model, const std::string & name) {
    for (const auto & [stored, tensor] : llama_internal_get_tensor_map(model)) {
        if (stored == name) {
            return tensor;
        }
    }
    return nullptr;
}

std::string text_of(const llama_model * model, const char * key) {
    char value[64];
    return llama_model_meta_val_str(model, key, value, sizeof(value)) < 0 ? "" : value;
}

std::vector<float> floats_of(const ggml_tensor * tensor) {
    std::vector<float> values(ggml_nelements(tensor));
    if (tensor->type == GGML_TYPE_F32) {
        ggml_backend_tensor_get(tensor, values.data(), 0, ggml_nbytes(tensor));
        return values;
    }
    const ggml_to_float_t to_float = ggml_get_type_traits(tensor->type)->to_float;
    if (!to_float) {
        throw std::runtime_error(std::string(tensor->name) + " is no tensor of numbers");
    }
    std::vector<char> stored(ggml_nbytes(tensor));
    ggml_backend_tensor_get(tensor, stored.data(), 0, stored.size());
    to_float(stored.data(), values.data(), static_cast<int64_t>(values.size()));
    return values;
}

}  // namespace

DenseHead::DenseHead(const llama_model * model) : n_in_(llama_model_n_embd_out(model)) {
    // LFM2's is part of llama.cpp's graph (dense-after-pooling.patch).
    if (text_of(model, "general.architecture") == "lfm2") {
        return;
    }
    for (const std::string name : {"dense_2", "dense_3"}) {
        const ggml_tensor * const weights = tensor_of(model, name + ".weight");
        if (!weights) {
            continue;
        }
        const ggml_tensor * const bias = tensor_of(model, name + ".bias");
        const std::string activation = text_of(model, ("embellama." + name + ".activation").c_str());
        Module module;
        module.n_in = weights->ne[0];
        module.n_out = weights->ne[1];
        module.tanh = activation == "tanh";
        if (module.n_in != n_out() || (bias && bias->ne[0] != module.n_out) || (!activation.empty() && !module.tanh)) {
            throw std::runtime_error("the module " + name + " does not fit the model");
        }
        module.weights = floats_of(weights);
        if (bias) {
            module.bias = floats_of(bias);
        }
        modules_.push_back(std::move(module));
    }
}

int64_t DenseHead::scratch_size() const {
    int64_t size = 0;
    for (const Module & module : modules_) {
        size += module.n_in;
    }
    return size;
}

void DenseHead::pool_text(const VectorLoops & loops, Pooling pooling, const float * rows, int64_t n_rows,
                          float * scratch, float * out) const {
    float * vector = modules_.empty() ? out : scratch;
    pool(loops, pooling, rows, n_rows, n_in_, vector);
    for (const Module & module : modules_) {
        const float * const input = vector;
        vector = &module == &modules_.back() ? out : vector + module.n_in;
        for (int64_t i = 0; i < module.n_out; i++) {
            const double sum = loops.dot(&module.weights[i * module.n_in], input, module.n_in);
            const double value = module.bias.empty() ? sum : sum + module.bias[i];
            vector[i] = static_cast<float>(module.tanh ? std::tanh(value) : value);
        }
    }
}

}  // namespace embellama
