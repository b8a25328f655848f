// SPDX-License-Identifier: Apache-2.0
// AVX-512 with dot products of bfloat16: twice the products per instruction.
#define EMBELLAMA_VECTOR_WIDTH 16

#include "bfloat16.hpp"
#include "table.hpp"

namespace embellama::encoder {

const Kernels avx512_bf16_kernels = table_of<Registers<Bfloat16, 12, 32>>("avx512_bf16");

}  // namespace embellama::encoder
