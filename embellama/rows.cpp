// SPDX-License-Identifier: Apache-2.0
#include "rows.hpp"

#include <cmath>
#include <cstring>

namespace embellama {

namespace {

// Flipping this bit of a byte subtracts 128: unsigned levels and bits become signed ones.
constexpr uint8_t SIGN = 0x80;

// llama.cpp's common_embd_normalize scales to this peak for embd_norm = 0.
constexpr double INT16_PEAK = 32760.0;

// torch.nn.functional.layer_norm's default.
constexpr double LAYER_NORM_EPSILON = 1e-5;

// Values are divided by the peak, so that no power overflows or underflows.
double p_norm(const float * vector, int64_t n_dims, double p, double peak) {
    double total = 0;
    for (int64_t i = 0; i < n_dims; i++) {
        total += std::pow(std::fabs(vector[i]) / peak, p);
    }
    return peak * std::pow(total, 1 / p);
}

}  // namespace

int64_t row_bytes(RowType type, int64_t n_dims) {
    switch (type) {
        case RowType::FLOAT32:
            return 4 * n_dims;
        case RowType::FLOAT16:
            return 2 * n_dims;
        case RowType::INT8:
        case RowType::UINT8:
            return n_dims;
        case RowType::BINARY:
        case RowType::UBINARY:
            break;
    }
    return (n_dims + 7) / 8;
}

void pool(const VectorLoops & loops, Pooling pooling, const float * rows, int64_t n_rows, int64_t n_dims, float * out) {
    switch (pooling) {
        case Pooling::MEAN:
            loops.sum_rows(rows, n_rows, n_dims, out);
            loops.scale(out, n_dims, static_cast<float>(1.0 / static_cast<double>(n_rows)));
            break;
        case Pooling::MEAN_SQRT:
            loops.sum_rows(rows, n_rows, n_dims, out);
            loops.scale(out, n_dims, static_cast<float>(1.0 / std::sqrt(static_cast<double>(n_rows))));
            break;
        case Pooling::MAX:
            loops.max_rows(rows, n_rows, n_dims, out);
            break;
        case Pooling::LAST:
            memcpy(out, rows + (n_rows - 1) * n_dims, n_dims * sizeof(float));
            break;
        case Pooling::CLS:
        case Pooling::NONE:
            memcpy(out, rows, n_dims * sizeof(float));
    }
}

void layer_norm(float * vector, int64_t n_dims) {
    const auto count = static_cast<double>(n_dims);
    double total = 0;
    for (int64_t i = 0; i < n_dims; i++) {
        total += vector[i];
    }
    const double mean = total / count;
    double squares = 0;
    for (int64_t i = 0; i < n_dims; i++) {
        const double difference = vector[i] - mean;
        squares += difference * difference;
    }
    const double scale = 1 / std::sqrt(squares / count + LAYER_NORM_EPSILON);
    for (int64_t i = 0; i < n_dims; i++) {
        vector[i] = static_cast<float>((vector[i] - mean) * scale);
    }
}

bool normalize(const VectorLoops & loops, Norm norm, double p, float * vector, int64_t n_dims) {
    if (norm == Norm::L2) {
        const double length = std::sqrt(loops.dot(vector, vector, n_dims));
        // Outside this range float32 squares lose digits or overflow, or a value is not finite.
        if (1e-15 < length && length < 1e18) {
            loops.scale(vector, n_dims, static_cast<float>(1 / length));
            return true;
        }
    }
    if (!loops.is_finite(vector, n_dims)) {
        return false;
    }
    if (norm == Norm::NONE) {
        return true;
    }
    const double peak = loops.max_abs(vector, n_dims);
    if (peak == 0) {
        return true;
    }
    const double length =
        norm == Norm::MAX_ABS ? peak / INT16_PEAK : p_norm(vector, n_dims, norm == Norm::L2 ? 2 : p, peak);
    // In double: 1 / length of a subnormal vector overflows float32.
    loops.divide(vector, n_dims, length);
    return true;
}

void write_row(const VectorLoops & loops, RowType type, const float * vector, int64_t n_dims, const float * starts,
               const float * steps, void * out) {
    switch (type) {
        case RowType::FLOAT32:
            if (out != vector) {
                memcpy(out, vector, n_dims * sizeof(float));
            }
            break;
        case RowType::FLOAT16:
            loops.to_float16(vector, n_dims, static_cast<uint16_t *>(out));
            break;
        case RowType::INT8:
            if (!starts) {
                loops.to_int8(vector, n_dims, static_cast<int8_t *>(out));
                break;
            }
            loops.to_levels(vector, n_dims, starts, steps, SIGN, static_cast<uint8_t *>(out));
            break;
        case RowType::UINT8:
            loops.to_levels(vector, n_dims, starts, steps, 0, static_cast<uint8_t *>(out));
            break;
        case RowType::BINARY:
            loops.to_bits(vector, n_dims, SIGN, static_cast<uint8_t *>(out));
            break;
        case RowType::UBINARY:
            loops.to_bits(vector, n_dims, 0, static_cast<uint8_t *>(out));
    }
}

}  // namespace embellama
