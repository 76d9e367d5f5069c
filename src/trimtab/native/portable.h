// What each source needs to be compiled once for several widths of vector, the widest chosen at run time.

#pragma once

#include <cstdint>
#include <cstring>

// ThreadSanitizer is not there yet when the loader asks which of several versions is to be used.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif
#define INLINE static inline __attribute__((always_inline))

enum Stored { FLOAT32 = 0, BFLOAT16 = 1, FLOAT16 = 2 };  // dtypes, as core/native.py numbers them

INLINE float wide(float x) { return x; }

INLINE float wide(uint16_t x) {  // of bfloat16
    const uint32_t bits = (uint32_t)x << 16;
    float made;
    memcpy(&made, &bits, sizeof made);
    return made;
}

INLINE void narrow(float x, float *to) { *to = x; }

INLINE void narrow(float x, uint16_t *to) {  // to nearest, ties to even; NaN stays one
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    *to = (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);  // x != x would keep a loop from being vectors
}
