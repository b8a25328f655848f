// SPDX-License-Identifier: Apache-2.0
// The buffer type that keeps weights as panels, or as the file's rows. llama.cpp puts weights into such
// a buffer instead of mapping them.
#pragma once

#include "ggml-backend.h"
#include "kernels.hpp"

namespace embellama::encoder {

// Each table of kernels has a buffer type of its own, with the layout of these kernels.
ggml_backend_buffer_type_t packed_buffer_type(const Kernels & kernels);

// The kernels whose buffer type holds the tensor; null for a tensor anywhere else.
const Kernels * kernels_of(const ggml_tensor * tensor);
const Kernels * kernels_of(ggml_backend_buffer_type_t type);

// Whether the kernels have panels for a tensor of this shape and type.
bool packable(const Kernels & kernels, const ggml_tensor * tensor);

// Whether exact kernels take the rows of a tensor, which is not packable, as they lie in the file, and
// widen them when they multiply. (llama.cpp would round what they are multiplied with.)
bool widenable(const Kernels & kernels, const ggml_tensor * tensor);

// Rows of a widenable tensor in float32.
void widen(const ggml_tensor * tensor, int64_t first_row, int64_t n_rows, float * values);

// A packed tensor, as a product needs it.
Weights weights_of(const ggml_tensor * tensor);

// The weights of one panel that is packed in bfloat16: [depth][columns_per_panel].
void unpack_panel(const ggml_tensor * tensor, int panel, float * values);

// The device that llama.cpp asks for this buffer type; set once.
void set_packed_device(ggml_backend_dev_t device);

}  // namespace embellama::encoder
