// SPDX-License-Identifier: Apache-2.0
// Vectors of EMBELLAMA_VECTOR_WIDTH floats, in the compiler's own vector arithmetic.
//
// Each instruction set includes this file, and those built on it, in a translation unit of its
// own with its own compiler flags. Everything is therefore in an unnamed namespace: an inline
// function that the linker merged could bring one set's instructions into another's code.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace embellama::encoder {
namespace {

constexpr int WIDTH = EMBELLAMA_VECTOR_WIDTH;

typedef float Floats __attribute__((vector_size(4 * EMBELLAMA_VECTOR_WIDTH)));
typedef int32_t Ints __attribute__((vector_size(4 * EMBELLAMA_VECTOR_WIDTH)));
typedef uint32_t Words __attribute__((vector_size(4 * EMBELLAMA_VECTOR_WIDTH)));
typedef float UnalignedFloats __attribute__((vector_size(4 * EMBELLAMA_VECTOR_WIDTH), aligned(4), may_alias));
typedef uint16_t Halves __attribute__((vector_size(2 * EMBELLAMA_VECTOR_WIDTH)));
typedef uint16_t UnalignedHalves __attribute__((vector_size(2 * EMBELLAMA_VECTOR_WIDTH), aligned(2), may_alias));

#define EMBELLAMA_INLINE static EMBELLAMA_INLINE_MEMBER
#define EMBELLAMA_INLINE_MEMBER inline __attribute__((always_inline))

EMBELLAMA_INLINE Floats load(const float * source) { return *reinterpret_cast<const UnalignedFloats *>(source); }

EMBELLAMA_INLINE void store(float * target, Floats x) { *reinterpret_cast<UnalignedFloats *>(target) = x; }

EMBELLAMA_INLINE Floats splat(float x) { return x - Floats{}; }

EMBELLAMA_INLINE Floats maximum(Floats a, Floats b) { return a > b ? a : b; }

EMBELLAMA_INLINE Floats minimum(Floats a, Floats b) { return a < b ? a : b; }

EMBELLAMA_INLINE Floats absolute(Floats x) { return (Floats)((Words)x & 0x7fffffffu); }

EMBELLAMA_INLINE int smaller(int a, int b) { return a < b ? a : b; }

EMBELLAMA_INLINE int larger(int a, int b) { return a > b ? a : b; }

EMBELLAMA_INLINE int rounded_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

typedef float Four __attribute__((vector_size(16)));
typedef float UnalignedFour __attribute__((vector_size(16), aligned(4), may_alias));

// Reduces the values of a vector, by fours first. The order of the operands must not matter.
template <typename Operation>
EMBELLAMA_INLINE float reduced(Floats x, Operation operation) {
    alignas(64) float parts[WIDTH];
    store(parts, x);
    Four four = *reinterpret_cast<const UnalignedFour *>(parts);
    for (int i = 4; i < WIDTH; i += 4) {
        four = operation(four, *reinterpret_cast<const UnalignedFour *>(parts + i));
    }
    return operation(operation(four[0], four[2]), operation(four[1], four[3]));
}

EMBELLAMA_INLINE float sum_of(Floats x) {
    return reduced(x, [](auto a, auto b) { return a + b; });
}

EMBELLAMA_INLINE float largest_of(Floats x) {
    return reduced(x, [](auto a, auto b) { return a > b ? a : b; });
}

// 2**x for x up to 126; everything below -126 counts as -126. `polynomial` is 2**x for
// |x| <= 1/2.
template <typename Polynomial>
EMBELLAMA_INLINE Floats power_of_two(Floats x, Polynomial polynomial) {
    x = maximum(x, splat(-126.0f));
    // Adding 1.5 * 2**23 rounds to an integer, which then stands in the last bits.
    const Floats shifted = x + splat(0x1.8p23f);
    const Floats p = polynomial(x - (shifted - splat(0x1.8p23f)));
    return (Floats)((Words)p + ((Words)shifted << 23));
}

// The relative error is below 1e-7; the coefficients are those of Cephes' exp2f.
EMBELLAMA_INLINE Floats power_of_two(Floats x) {
    return power_of_two(x, [](Floats f) __attribute__((always_inline)) {
        Floats p = splat(1.535336188319500e-4f);
        p = p * f + splat(1.339887440266574e-3f);
        p = p * f + splat(9.618437357674640e-3f);
        p = p * f + splat(5.550332471162809e-2f);
        p = p * f + splat(2.402264791363012e-1f);
        p = p * f + splat(6.931472028550421e-1f);
        return p * f + splat(1.0f);
    });
}

// The error is below 1e-4, for results that are rounded to bfloat16.
EMBELLAMA_INLINE Floats rough_power_of_two(Floats x) {
    return power_of_two(x, [](Floats f) __attribute__((always_inline)) {
        Floats p = splat(0.05592f) * f + splat(0.24264f);
        p = p * f + splat(0.693138f);
        return p * f + splat(0.999925f);
    });
}

constexpr float LOG2_E = 1.44269504088896341f;

// x * Phi(x). Abramowitz and Stegun 7.1.26 for erfc(|x| / sqrt(2)), whose error is below 1.5e-7.
EMBELLAMA_INLINE Floats gelu_erf(Floats x) {
    const Floats z = absolute(x) * splat(0.70710678118654752440f);
    const Floats t = splat(1.0f) / (z * splat(0.3275911f) + splat(1.0f));
    Floats p = t * splat(1.061405429f) + splat(-1.453152027f);
    p = p * t + splat(1.421413741f);
    p = p * t + splat(-0.284496736f);
    p = (p * t + splat(0.254829592f)) * t;
    const Floats e = power_of_two(z * z * splat(-LOG2_E));
    return maximum(x, Floats{}) - p * e * absolute(x) * splat(0.5f);
}

// x / (1 + exp(-2 sqrt(2 / pi) (x + 0.044715 x**3))), the tanh form (arXiv:1606.08415).
EMBELLAMA_INLINE Floats gelu_tanh(Floats x) {
    const float scale = -2.0f * 0.79788456080286535588f * LOG2_E;
    const Floats exponent = x * (x * x * splat(0.044715f * scale) + splat(scale));
    return x / (splat(1.0f) + power_of_two(minimum(exponent, splat(126.0f))));
}

EMBELLAMA_INLINE Floats widen_bfloat16(const uint16_t * source) {
    const Halves halves = *reinterpret_cast<const UnalignedHalves *>(source);
    return (Floats)(__builtin_convertvector(halves, Words) << 16);
}

// The values must be bfloat16 numbers already: nothing is rounded.
EMBELLAMA_INLINE void narrow_bfloat16(Floats x, uint16_t * target) {
    *reinterpret_cast<UnalignedHalves *>(target) = __builtin_convertvector((Words)x >> 16, Halves);
}

}  // namespace
}  // namespace embellama::encoder
