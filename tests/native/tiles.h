// Tiles in plain C++, for a build that runs the AMX form of the library on CPUs that multiply pairs of bfloat16 in vectors
// alone: g++ -include tests/native/tiles.h. Slow, and the same numbers.

#pragma once

#if defined(__x86_64__) && defined(__linux__) && __GNUC__ >= 12
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#define EMULATED_TILES 1

struct EmulatedTile {
    alignas(64) uint8_t rows[16][64];
};

inline thread_local EmulatedTile emulated_tiles[8];

inline void emulated_zero(int tile) { memset(&emulated_tiles[tile], 0, sizeof(EmulatedTile)); }

inline void emulated_load(int tile, const void *from, int64_t stride) {
    for (int r = 0; r < 16; r++) memcpy(emulated_tiles[tile].rows[r], (const uint8_t *)from + r * stride, 64);
}

inline void emulated_store(int tile, void *to, int64_t stride) {
    for (int r = 0; r < 16; r++) memcpy((uint8_t *)to + r * stride, emulated_tiles[tile].rows[r], 64);
}

__attribute__((target("avx512f,avx512bf16"))) inline void emulated_product(int to, int left, int right) {
    for (int r = 0; r < 16; r++) {
        __m512 sums = _mm512_load_ps(emulated_tiles[to].rows[r]);
        for (int p = 0; p < 16; p++) {
            int32_t pair;
            memcpy(&pair, emulated_tiles[left].rows[r] + 4 * p, sizeof pair);
            const __m512i line = _mm512_load_si512(emulated_tiles[right].rows[p]);
            sums = _mm512_dpbf16_ps(sums, (__m512bh)_mm512_set1_epi32(pair), (__m512bh)line);
        }
        _mm512_store_ps(emulated_tiles[to].rows[r], sums);
    }
}

#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_zero(tile) emulated_zero(tile)
#define _tile_loadd(tile, from, stride) emulated_load(tile, from, stride)
#define _tile_stored(tile, to, stride) emulated_store(tile, to, stride)
#define _tile_dpbf16ps(to, left, right) emulated_product(to, left, right)
#define _tile_release() ((void)0)
#endif
