// What the sources that use AMX share.

#pragma once

#include <cstdint>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__)
#define HAS_TILES 1
#include <immintrin.h>

#include "portable.h"

#define AMX __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,avx2,fma,f16c")))

struct alignas(64) Config {  // eight tiles of 16 rows of 64 bytes
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// What _tile_loadconfig is for; in GCC 12 that says that it reads eight bytes, and the others may not be written then.
#ifdef EMULATED_TILES  // tests/native/tiles.h
AMX INLINE void configure(const Config &) {}
#else
AMX INLINE void configure(const Config &config) { __asm__ volatile("ldtilecfg\t%X0" ::"m"(config)); }
#endif

// In bfloat16 (to nearest, ties to even), lane by lane, the first in the lower half.
AMX INLINE __m512i pair(__m512 first, __m512 second) {
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(second, first);  // one behind the other
    const __m512i lanes = _mm512_set_epi32(0x1f000f, 0x1e000e, 0x1d000d, 0x1c000c, 0x1b000b, 0x1a000a, 0x190009, 0x180008,
                                           0x170007, 0x160006, 0x150005, 0x140004, 0x130003, 0x120002, 0x110001, 0x100000);
    return _mm512_permutexvar_epi16(lanes, both);
}

// What tiles read is written before, and what they write is read behind.
INLINE void settled() { __asm__ volatile("" ::: "memory"); }
#endif
