// What the sources that use AMX share.

#pragma once

#include <cstdint>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__)
#define HAS_TILES 1
#include <immintrin.h>

#include "portable.h"

#define AMX __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")))

struct alignas(64) Config {  // eight tiles of 16 rows of 64 bytes
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// What _tile_loadconfig is for; in GCC 12 that says that it reads eight bytes, and the others may not be written then.
AMX INLINE void configure(const Config &config) { __asm__ volatile("ldtilecfg\t%X0" ::"m"(config)); }

AMX INLINE __m512i rounded(__m512 x) {  // to bfloat16, in the upper halves; to nearest, ties to even
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i made = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    return _mm512_and_si512(made, _mm512_set1_epi32((int)0xffff0000));
}

AMX INLINE __m512i pair(__m512 first, __m512 second) {  // lane by lane, the first in the lower half
    return _mm512_or_si512(_mm512_srli_epi32(rounded(first), 16), rounded(second));
}

// What tiles read is written before, and what they write is read behind.
INLINE void settled() { __asm__ volatile("" ::: "memory"); }
#endif
