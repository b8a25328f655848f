// SPDX-License-Identifier: Apache-2.0
// Where bfloat16 is not enough: feed-forward neurons that can turn a whole row when what they read is
// rounded. docs/encoder.md says how they were found, and what the constants were measured on.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

struct ggml_tensor;
struct llama_model;

namespace embellama::encoder {

// A neuron whose output may be as large as the row to which it is added (a massive activation,
// arXiv:2402.17762).
struct SensitiveNeuron {
    std::vector<float> weights;  // with which it multiplies a row
    float bias;
    float output_norm;  // of the vector that it adds, times its activation, to the row
    float rounding;     // the relative error of the products that it sums
};

class SensitiveNeurons {
public:
    // Those of a loaded model; none if its weights are not packed in bfloat16, or if it is no BERT.
    explicit SensitiveNeurons(const llama_model * model);

    bool empty() const { return neurons.empty(); }

    // Those that a matrix of weights computes; null for none.
    const std::vector<SensitiveNeuron> * of(const ggml_tensor * weights) const;

private:
    std::map<const ggml_tensor *, std::vector<SensitiveNeuron>> neurons;
};

// Whether rounding may turn the row that the neurons read. `n` is the number of weights of each.
bool is_doubtful(const std::vector<SensitiveNeuron> & neurons, const float * row, int n);

// While an object exists, the computations of its thread note which rows are doubtful.
class DoubtfulRows {
public:
    // `neurons` may be null: nothing is noted then.
    explicit DoubtfulRows(const SensitiveNeurons * neurons);
    ~DoubtfulRows();
    DoubtfulRows(const DoubtfulRows &) = delete;
    DoubtfulRows & operator=(const DoubtfulRows &) = delete;

    static DoubtfulRows * current();

    // Whether any of the rows from first to last - 1 is doubtful.
    bool any(int64_t first, int64_t last) const;

    const SensitiveNeurons * const neurons;
    std::vector<uint8_t> flags;  // of each row; empty where nothing was noted

private:
    DoubtfulRows * const outer;
};

}  // namespace embellama::encoder
