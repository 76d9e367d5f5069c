// gate = act(gate) * up, number by number and in place: the compiled form of core/gated.py, in one pass where eager
// operations write two matrices more.

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "portable.h"
#include "threads.h"

namespace {

enum Kind { SILU = 0, GELU_TANH = 1 };

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

template <typename T> INLINE void combine(T *gate, const T *up, size_t count, int kind) {
    for (size_t i = 0; i < count; i++) {
        T early;
        narrow(activated(wide(gate[i]), kind), &early);
        narrow(wide(early) * wide(up[i]), gate + i);
    }
}

CLONES void silu_floats(float *gate, const float *up, size_t count) { combine(gate, up, count, SILU); }
CLONES void gelu_floats(float *gate, const float *up, size_t count) { combine(gate, up, count, GELU_TANH); }
CLONES void silu_bfloat16s(uint16_t *gate, const uint16_t *up, size_t count) { combine(gate, up, count, SILU); }
CLONES void gelu_bfloat16s(uint16_t *gate, const uint16_t *up, size_t count) { combine(gate, up, count, GELU_TANH); }

}  // namespace

// gate (count) = act(gate) * up, float32 or bfloat16, act rounded to that dtype before the product. 0 when done, 1 for
// another dtype or kind.
extern "C" int trimtab_gated(void *gate, const void *up, int64_t count, int kind, int stored, int threads) {
    if ((stored != FLOAT32 && stored != BFLOAT16) || (kind != SILU && kind != GELU_TANH)) return 1;
    in_parts(count, threads, [=](int64_t start, int64_t stop) {
        const size_t size = (size_t)(stop - start);
        if (stored == FLOAT32)
            (kind == SILU ? silu_floats : gelu_floats)((float *)gate + start, (const float *)up + start, size);
        else
            (kind == SILU ? silu_bfloat16s : gelu_bfloat16s)((uint16_t *)gate + start, (const uint16_t *)up + start, size);
    });
    return 0;
}
