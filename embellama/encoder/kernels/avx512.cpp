// SPDX-License-Identifier: Apache-2.0
// AVX-512 (F, BW, DQ, VL): 12 x 2 sums of the 32 registers.
#define EMBELLAMA_VECTOR_WIDTH 16

#include "float32.hpp"
#include "table.hpp"

const embellama::encoder::Kernels embellama::encoder::avx512_kernels =
    embellama::encoder::table_of<embellama::encoder::Float32, 12, 32>("avx512");
