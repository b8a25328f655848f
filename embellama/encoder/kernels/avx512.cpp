// SPDX-License-Identifier: Apache-2.0
// AVX-512 (F, BW, DQ, VL): 12 x 2 sums of the 32 registers.
#define EMBELLAMA_VECTOR_WIDTH 16

#include "float32.hpp"
#include "table.hpp"

namespace embellama::encoder {

const Kernels avx512_kernels = table_of<Registers<Float32, 12, 32>>("avx512");

}  // namespace embellama::encoder
