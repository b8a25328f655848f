// SPDX-License-Identifier: Apache-2.0
// Any processor: vectors of four floats, as SSE2 and NEON have.
#define EMBELLAMA_VECTOR_WIDTH 4

#include "float32.hpp"
#include "table.hpp"

const embellama::encoder::Kernels embellama::encoder::generic_kernels =
    embellama::encoder::table_of<embellama::encoder::Float32, 3, 16>("generic");
