// SPDX-License-Identifier: Apache-2.0
// AVX2, FMA and F16C: 6 x 2 sums, two vectors of columns and a broadcast value fit into the 16
// registers.
#define EMBELLAMA_VECTOR_WIDTH 8

#include "float32.hpp"
#include "table.hpp"

namespace embellama::encoder {

const Kernels avx2_kernels = table_of<Registers<Float32, 6, 16>>("avx2");

}  // namespace embellama::encoder
