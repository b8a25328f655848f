// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "../rows.hpp"

struct llama_model;

namespace embellama {

// What comes after the pooling: sentence-transformers' Dense modules, one after the other, each
// activation(weights * vector + bias). A model without them has an empty head, which changes nothing.
class DenseHead {
public:
    // Reads the tensors dense_2 and dense_3 of a loaded model. Throws where they do not fit.
    explicit DenseHead(const llama_model * model);

    // Values of a token's vector, and of a text's.
    int64_t n_in() const { return n_in_; }
    int64_t n_out() const { return modules_.empty() ? n_in_ : modules_.back().n_out; }
    // Values that pool_text() needs room for beside the result.
    int64_t scratch_size() const;

    // Makes the text's vector, of n_out() values, from the vectors of its tokens.
    void pool_text(const VectorLoops & loops, Pooling pooling, const float * rows, int64_t n_rows, float * scratch,
                   float * out) const;

private:
    struct Module {
        int64_t n_in = 0;
        int64_t n_out = 0;
        std::vector<float> weights;  // n_out x n_in
        std::vector<float> bias;     // empty for none
        bool tanh = false;
    };

    int64_t n_in_;
    std::vector<Module> modules_;
};

}  // namespace embellama
