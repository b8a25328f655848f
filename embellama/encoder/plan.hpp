// SPDX-License-Identifier: Apache-2.0
// A graph of llama.cpp as a short list of fused steps.
#pragma once

#include <array>
#include <variant>
#include <vector>

#include "attention_mask.hpp"
#include "kernels.hpp"
#include "scratch.hpp"
#include "sensitive_neurons.hpp"

struct ggml_cgraph;
struct ggml_tensor;

namespace embellama::encoder {

// Products of the same input. None reads what another one writes.
using Products = std::vector<Product>;

// Packs rows of float32 into tiles, where no other step has put into tiles what a step reads.
struct Pack {
    const float * rows;
    int64_t row_stride;
    Tiles tiles;
};

// A product, or one of a mixture of experts, with weights that are not packed.
struct WidenedProduct {
    const ggml_tensor * node;
};

// Notes which rows are doubtful, before neurons read them.
struct Examination {
    const std::vector<SensitiveNeuron> * neurons;
    const float * rows;
    int n_rows;
    int n_columns;
};

// The nodes from first to last - 1, left to llama.cpp's code for the CPU.
struct Nodes {
    int first;
    int last;
};

using Step = std::variant<Products, LayerNorm, Attention, Pack, WidenedProduct, Examination, Nodes>;

// The memory where tiles lie between two steps, named after the step that produces them.
enum Place { NORMALIZED, ACTIVATED, ATTENDED, PACKED, QUERIES, KEYS, VALUES, N_PLACES };

struct Plan {
    const Kernels * kernels = nullptr;
    std::vector<Step> steps;
    std::vector<Text> texts;
    std::array<Scratch, N_PLACES> places;
};

// `neurons` are those of the graph's model to be examined, or null. Throws std::bad_alloc.
void make_plan(ggml_cgraph * graph, const SensitiveNeurons * neurons, Plan & plan);

// Whether make_plan has a step for an operation whose weight lies in the kernels' buffer type. The
// operation must have its shapes, but need not have memory yet.
bool plannable(const Kernels & kernels, const ggml_tensor * operation);

}  // namespace embellama::encoder
