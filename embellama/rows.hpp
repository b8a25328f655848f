// SPDX-License-Identifier: Apache-2.0
// Pooling, normalisation and smaller types of rows of float32. Nothing here allocates or throws.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vector_loops.hpp"

namespace embellama {

// The numbers are those of kernels.pxd, which other projects compile against.
enum class Pooling : int { NONE = 0, MEAN = 1, CLS = 2, LAST = 3, MAX = 4, MEAN_SQRT = 5 };
enum class Norm : int { NONE = 0, MAX_ABS = 1, L2 = 2, P = 3 };
enum class RowType : int { FLOAT32 = 0, FLOAT16 = 1, INT8 = 2, UINT8 = 3, BINARY = 4, UBINARY = 5 };

// Bytes of a row of n_dims values.
int64_t row_bytes(RowType type, int64_t n_dims);

// rows: n_rows x n_dims, contiguous; n_rows >= 1. `out` has n_dims values and does not overlap them.
// Pooling::NONE has no single vector and is not accepted.
void pool(const VectorLoops & loops, Pooling pooling, const float * rows, int64_t n_rows, int64_t n_dims, float * out);

// Subtracts the mean and divides by the standard deviation, in place, as torch.nn.functional.layer_norm.
void layer_norm(float * vector, int64_t n_dims);

// Scales in place; `p` is for Norm::P. Returns false, and leaves the vector as it is, when it holds a
// NaN or an infinity.
bool normalize(const VectorLoops & loops, Norm norm, double p, float * vector, int64_t n_dims);

// Writes a vector as another type. `starts` and `steps` have n_dims values each for the types INT8 and
// UINT8 with ranges, and are null otherwise. `out` has row_bytes(type, n_dims) bytes, and may be the
// vector itself for FLOAT32.
void write_row(const VectorLoops & loops, RowType type, const float * vector, int64_t n_dims, const float * starts,
               const float * steps, void * out);

}  // namespace embellama
