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

// Finds the texts of a mask in which each row sees all rows of its own text and no others. Returns
// false for any other mask (causal, a window, biases); the content of `texts` is then undefined.
bool texts_of(const ggml_tensor * mask, int n_rows, std::vector<Text> & texts);

}  // namespace embellama::encoder
