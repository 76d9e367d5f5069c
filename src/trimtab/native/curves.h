// Exponentials and activations as loops of whole vectors: shared by gated.cpp and decode.cpp.

#pragma once

#include <cstdint>
#include <cstring>

#include "portable.h"

enum Activation { SILU = 0, GELU_TANH = 1 };

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

// x / (1 + e^-z), z = x for SiLU and 2 sqrt(2 / pi) (x + 0.044715 x^3) for GELU by tanh.
INLINE float activated(float x, int kind) {
    float z = kind == SILU ? x : 1.5957691216057308f * (x + 0.044715f * x * x * x);
    uint32_t bits;
    memcpy(&bits, &z, sizeof bits);  // by whole numbers: a comparison of floats keeps the loop from becoming vectors
    const uint32_t most = 0x42ae0000, size = bits & 0x7fffffff;  // 87
    bits = (bits & 0x80000000) | (size < most ? size : most);
    memcpy(&z, &bits, sizeof z);
    return x / (1.0f + exponential(-z));
}
