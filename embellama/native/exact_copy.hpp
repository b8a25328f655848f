// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>

#include "../encoder/sensitive_neurons.hpp"
#include "llama.h"

namespace embellama {

// The weights of a model once more, for the texts that products of bfloat16 would falsify.
class ExactCopy {
public:
    // Loads the file of `model` again, for products of float32, if the model has neurons that are
    // sensitive to rounding; else returns null. Throws what llama.cpp throws or logs.
    static ExactCopy * of(const llama_model * model, const char * path, llama_model_params params);

    ~ExactCopy();
    ExactCopy(const ExactCopy &) = delete;
    ExactCopy & operator=(const ExactCopy &) = delete;

    llama_model * model() const { return model_; }
    const encoder::SensitiveNeurons & neurons() const { return neurons_; }

private:
    explicit ExactCopy(encoder::SensitiveNeurons neurons) : neurons_(std::move(neurons)) {}

    encoder::SensitiveNeurons neurons_;
    llama_model * model_ = nullptr;
};

}  // namespace embellama
