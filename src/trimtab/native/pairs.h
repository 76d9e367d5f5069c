// Products of pairs of bfloat16 in vectors, for CPUs that have no tiles.

#pragma once

#include <cstring>

#include "amx.h"

#ifdef HAS_TILES
// Sums of R lines of left by B blocks, lane by lane: sums[b][r] += sum over pairs p of left(r, p) line(b, p). What one tile
// product does, for CPUs that multiply pairs in vectors alone.
template <int R, int B>
AMX INLINE void add_pairs(const uint16_t *left, int64_t stride, const uint16_t *const (&lines)[B], int count, __m512 (&sums)[B][R]) {
    for (int p = 0; p < count; p++) {
        __m512bh line[B];
        for (int b = 0; b < B; b++) line[b] = (__m512bh)_mm512_loadu_si512(lines[b] + p * 32);
        for (int r = 0; r < R; r++) {
            int32_t bits;
            memcpy(&bits, left + r * stride + 2 * p, sizeof bits);
            const __m512bh one = (__m512bh)_mm512_set1_epi32(bits);
            for (int b = 0; b < B; b++) sums[b][r] = _mm512_dpbf16_ps(sums[b][r], one, line[b]);
        }
    }
}
#endif
