// SPDX-License-Identifier: Apache-2.0
// Any processor: vectors of four floats, as SSE2 and NEON have.
#define EMBELLAMA_VECTOR_WIDTH 4

#include "float32.hpp"
#include "table.hpp"

namespace embellama::encoder {

const Kernels generic_kernels = table_of<Registers<Float32, 3, 16>>("generic");

}  // namespace embellama::encoder
