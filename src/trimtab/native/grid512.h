// Scales and zeros of a block's 16 rows as vectors of 512 bits.

#pragma once

#include "product.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")))

VNNI INLINE __m512 scales(const Matrix &m, int64_t at) {
    if (m.stored == FLOAT32) return _mm512_loadu_ps((const float *)m.scale + at);
    const __m256i bits = _mm256_loadu_si256((const __m256i *)((const uint16_t *)m.scale + at));
    if (m.stored == FLOAT16) return _mm512_cvtph_ps(bits);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

VNNI INLINE __m512 zeros(const Matrix &m, int64_t at) {
    if (m.levels) return _mm512_setzero_ps();
    if (!m.zero) return _mm512_set1_ps((float)(1 << (m.kind - 1)));
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(m.zero + at))));
}
#endif
