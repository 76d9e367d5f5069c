// Exponentials and activations as loops of whole vectors: shared by gated.cpp and decode.cpp.

#pragma once

#include <cstdint>
#include <cstring>

#include "portable.h"

enum Activation { SILU = 0, GELU_TANH = 1, GELU_QUICK = 2, GELU_ERF = 3 };

// e^x for |x| <= 87, relative error below 2e-7: 2^n by the exponent's bits, the rest by its series.
INLINE float exponential(float x) {
    const float shift = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the lowest bits
    const float moved = x * 1.44269504088896341f + shift, n = moved - shift;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits;
    memcpy(&bits, &p, sizeof bits);
    int32_t whole;
    memcpy(&whole, &moved, sizeof whole);
    bits += (int32_t)((uint32_t)whole << 23);
    memcpy(&p, &bits, sizeof p);
    return p;
}

// x where |x| < 87, else 87 with its sign; by whole numbers, since a comparison of floats keeps a loop from becoming vectors.
INLINE float bounded(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t most = 0x42ae0000, size = bits & 0x7fffffff;
    bits = (bits & 0x80000000) | (size < most ? size : most);
    memcpy(&x, &bits, sizeof x);
    return x;
}

// x Phi(x), Phi by Abramowitz and Stegun (1964), 7.1.26, to 1e-7: 1 - p(t) e^(-x^2 / 2) / 2, t = 1 / (1 + c |x|).
INLINE float gelu(float x) {
    uint32_t bits, sign;
    memcpy(&bits, &x, sizeof bits);
    sign = bits & 0x80000000, bits &= 0x7fffffff;
    float size, tail;
    memcpy(&size, &bits, sizeof size);
    const float t = 1.0f / (1.0f + 0.23164189f * size);  // 0.3275911 / sqrt(2)
    tail = 0.5f * t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    tail *= exponential(bounded(-0.5f * x * x));
    float half = 0.5f - tail;  // Phi(|x|) - 1 / 2
    memcpy(&bits, &half, sizeof bits);
    bits ^= sign;
    memcpy(&half, &bits, sizeof half);
    return x * (0.5f + half);
}

// x / (1 + e^-z), z = x for SiLU, 2 sqrt(2 / pi) (x + 0.044715 x^3) for GELU by tanh and 1.702 x for its quick form.
INLINE float activated(float x, int kind) {
    if (kind == GELU_ERF) return gelu(x);
    const float z = kind == SILU ? x : kind == GELU_QUICK ? 1.702f * x : 1.5957691216057308f * (x + 0.044715f * x * x * x);
    return x / (1.0f + exponential(-bounded(z)));
}
