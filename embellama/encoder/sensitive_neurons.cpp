// SPDX-License-Identifier: Apache-2.0
#include "sensitive_neurons.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "../runtime/thread_memory.hpp"
#include "ggml.h"
#include "packed_weights.hpp"

// Declared in llama.cpp's src/llama-model.h.
const std::vector<std::pair<std::string, ggml_tensor *>> & llama_internal_get_tensor_map(const llama_model * model);

namespace embellama::encoder {

namespace {

// How far rounding may turn a row, as a part of its length, by the estimate of is_doubtful. Of 5,125
// texts for multilingual-e5-small, those that bfloat16 put below a cosine of 0.9999 had 0.0226 or more.
constexpr float MOST_TURN = 0.014f;

// A row may turn by this many times what the layer's weights alone let expect.
constexpr float MOST_ABOVE_EXPECTED = 1.7f;

constexpr float BFLOAT16_ROUNDING = 0x1p-9f;

// The largest derivative of GELU, at the square root of 2.
constexpr float STEEPEST_GELU = 1.13f;

EMBELLAMA_THREAD_LOCAL DoubtfulRows * current_rows = nullptr;

using Tensors = std::map<std::string, const ggml_tensor *>;

const ggml_tensor * tensor_of(const Tensors & tensors, int layer, const char * name) {
    const auto found = tensors.find("blk." + std::to_string(layer) + "." + name);
    return found == tensors.end() ? nullptr : found->second;
}

const float * vector_of(const Tensors & tensors, int layer, const char * name, int64_t n) {
    const ggml_tensor * tensor = tensor_of(tensors, layer, name);
    return tensor && tensor->type == GGML_TYPE_F32 && ggml_nelements(tensor) == n
               ? static_cast<const float *>(tensor->data)
               : nullptr;
}

bool is_packed_in_bfloat16(const ggml_tensor * tensor) {
    const Kernels * kernels = tensor ? kernels_of(tensor) : nullptr;
    return kernels && !kernels->exact && packable(*kernels, tensor);
}

// Calls use(panel, values) for each panel of a matrix; `values` has columns_per_panel weights for each
// value of the depth.
template <typename Use>
void for_each_panel(const ggml_tensor * tensor, Use use) {
    const int n_columns = kernels_of(tensor)->columns_per_panel;
    std::vector<float> values(tensor->ne[0] * n_columns);
    for (int panel = 0; panel < tensor->ne[1] / n_columns; panel++) {
        unpack_panel(tensor, panel, values.data());
        use(panel, values.data());
    }
}

// The norm of the vector that each neuron adds to a row.
std::vector<float> output_norms(const ggml_tensor * down) {
    const int n_columns = kernels_of(down)->columns_per_panel;
    std::vector<float> norms(down->ne[0]);
    for_each_panel(down, [&](int, const float * values) {
        for (float & norm : norms) {
            float sum = 0;
            for (int column = 0; column < n_columns; column++) {
                sum += values[column] * values[column];
            }
            norm += sum;
            values += n_columns;
        }
    });
    for (float & norm : norms) {
        norm = std::sqrt(norm);
    }
    return norms;
}

std::vector<SensitiveNeuron> sensitive_neurons_of(const Tensors & tensors, int layer, const ggml_tensor * up) {
    const ggml_tensor * down = tensor_of(tensors, layer, "ffn_down.weight");
    const int64_t depth = up->ne[0], n_neurons = up->ne[1];
    const float * scale = vector_of(tensors, layer, "attn_output_norm.weight", depth);
    const float * shift = vector_of(tensors, layer, "attn_output_norm.bias", depth);
    const float * bias = vector_of(tensors, layer, "ffn_up.bias", n_neurons);
    if (!is_packed_in_bfloat16(up) || !is_packed_in_bfloat16(down) || down->ne[0] != n_neurons || !scale || !shift) {
        return {};
    }
    // LayerNorm gives a row's values these mean squares.
    std::vector<float> squares(depth);
    float row_square = 0;
    for (int64_t k = 0; k < depth; k++) {
        squares[k] = scale[k] * scale[k] + shift[k] * shift[k];
        row_square += squares[k];
    }
    const std::vector<float> norms = output_norms(down);
    // Each layer rounds, and adds as much to the error's square.
    const float rounding = BFLOAT16_ROUNDING * std::sqrt(layer + 1.0f);
    const float turn = STEEPEST_GELU * rounding * MOST_ABOVE_EXPECTED / std::sqrt(row_square);
    const int n_columns = kernels_of(up)->columns_per_panel;
    std::vector<SensitiveNeuron> found;
    std::vector<float> sums(n_columns);
    for_each_panel(up, [&](int panel, const float * values) {
        std::fill(sums.begin(), sums.end(), 0.0f);
        for (int64_t k = 0; k < depth; k++) {
            for (int column = 0; column < n_columns; column++) {
                const float weight = values[k * n_columns + column];
                sums[column] += weight * weight * squares[k];
            }
        }
        for (int column = 0; column < n_columns; column++) {
            const int neuron = panel * n_columns + column;
            if (turn * std::sqrt(sums[column]) * norms[neuron] <= MOST_TURN) {
                continue;
            }
            SensitiveNeuron sensitive = {std::vector<float>(depth), bias ? bias[neuron] : 0, norms[neuron], rounding};
            for (int64_t k = 0; k < depth; k++) {
                sensitive.weights[k] = values[k * n_columns + column];
            }
            found.push_back(std::move(sensitive));
        }
    });
    return found;
}

}  // namespace

SensitiveNeurons::SensitiveNeurons(const llama_model * model) {
    Tensors tensors;
    for (const auto & [name, tensor] : llama_internal_get_tensor_map(model)) {
        tensors.emplace(name, tensor);
    }
    for (int layer = 0; const ggml_tensor * up = tensor_of(tensors, layer, "ffn_up.weight"); layer++) {
        std::vector<SensitiveNeuron> found = sensitive_neurons_of(tensors, layer, up);
        if (!found.empty()) {
            neurons.emplace(up, std::move(found));
        }
    }
}

const std::vector<SensitiveNeuron> * SensitiveNeurons::of(const ggml_tensor * weights) const {
    const auto found = neurons.find(weights);
    return found == neurons.end() ? nullptr : &found->second;
}

// The neuron's input z is a sum of products of which each is rounded. Its activation then changes by
// GELU'(z) times the error, and the row by that times the vector that the neuron adds.
bool is_doubtful(const std::vector<SensitiveNeuron> & neurons, const float * row, int n) {
    for (const SensitiveNeuron & neuron : neurons) {
        float z = neuron.bias, product_square = 0, row_square = 0;
        for (int k = 0; k < n; k++) {
            const float product = neuron.weights[k] * row[k];
            z += product;
            product_square += product * product;
            row_square += row[k] * row[k];
        }
        const float probability = 0.5f * std::erfc(-z * 0.70710678f);
        const float slope = probability + z * 0.39894228f * std::exp(-0.5f * z * z);
        const float change = std::abs(slope) * neuron.rounding * std::sqrt(product_square) * neuron.output_norm;
        const float added = z * probability * neuron.output_norm;
        if (change > MOST_TURN * std::sqrt(row_square + added * added)) {
            return true;
        }
    }
    return false;
}

DoubtfulRows::DoubtfulRows(const SensitiveNeurons * neurons) : neurons(neurons), outer(current_rows) {
    current_rows = neurons ? this : nullptr;
}

DoubtfulRows::~DoubtfulRows() { current_rows = outer; }

DoubtfulRows * DoubtfulRows::current() { return current_rows; }

bool DoubtfulRows::any(int64_t first, int64_t last) const {
    const auto is_set = [](uint8_t flag) { return flag != 0; };
    return !flags.empty() && std::any_of(flags.begin() + first, flags.begin() + last, is_set);
}

}  // namespace embellama::encoder
