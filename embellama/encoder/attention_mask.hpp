// SPDX-License-Identifier: Apache-2.0
// Which rows of a micro-batch see each other, read off llama.cpp's attention mask.
#pragma once

#include <vector>

struct ggml_tensor;

namespace embellama::encoder {

struct Text {
    int first_row;
    int n_rows;
};

// The texts of a mask that lets each row see the rows of its own text and no other. False for any
// other mask (causal, a window, biases), whatever is in `texts` then.
bool texts_of(const ggml_tensor * mask, int n_rows, std::vector<Text> & texts);

}  // namespace embellama::encoder
