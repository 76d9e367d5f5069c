// The products of product.h for many rows: tiles of 16 rows of W and of inputs in bfloat16, sums in float32, by AMX or, where
// the CPU multiplies pairs in vectors alone, by these.
//
// Lines of 16-bit weights are pairs of inputs side by side, which is how a tile's right side is laid out; codes are made
// such lines once for a call, value for value what the weight is dense.

#include <cstring>

#include "expand.h"
#include "grid512.h"
#include "pairs.h"

#ifdef HAS_TILES
namespace {

constexpr int NEAR = 256;  // inputs whose lines of two blocks take a third of the nearest cache

// A block's 16 rows as lines of pairs.
AMX void spread(const Matrix &m, int block, uint8_t *to) {
    const uint8_t *at = m.codes + block * block_bytes(m);
    const __m512 counted = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512 table = m.levels ? _mm512_loadu_ps(m.levels) : counted;
    const int groups = m.in / m.group;
    for (int g = 0; g < groups; g++) {
        const int64_t place = ((int64_t)block * groups + g) * BLOCK;
        const __m512 zero = zeros(m, place), scale = scales(m, place);
        const auto value = [&](__m512 code) AMX { return _mm512_mul_ps(_mm512_sub_ps(code, zero), scale); };
        for (int k = 0; k < m.group; k += m.kind == CODES4 ? 8 : 4, at += 64) {
            const __m512i line = _mm512_loadu_si512(at);
            for (int half = 0; half < (m.kind == CODES4 ? 2 : 1); half++)
                for (int i = 0; i < 4; i += 2, to += 64) {
                    __m512 one, other;
                    if (m.kind == CODES4) {
                        one = _mm512_permutexvar_ps(_mm512_srli_epi32(line, 8 * i + 4 * half), table);
                        other = _mm512_permutexvar_ps(_mm512_srli_epi32(line, 8 * i + 8 + 4 * half), table);
                    } else {
                        const __m512i byte = _mm512_set1_epi32(255);
                        one = _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(line, 8 * i), byte));
                        other = _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(line, 8 * i + 8), byte));
                    }
                    _mm512_storeu_si512(to, pair(value(one), value(other)));
                }
        }
    }
}

AMX INLINE void put(const Matrix &m, const float *made, int block, int row, int rows, float *y, int64_t stride) {
    const int left = m.out - block * BLOCK < BLOCK ? m.out - block * BLOCK : BLOCK;
    const __mmask16 there = left == BLOCK ? 0xffff : (1u << left) - 1;
    const __m512 bias = m.bias ? _mm512_maskz_loadu_ps(there, m.bias + block * BLOCK) : _mm512_setzero_ps();
    for (int t = row; t < rows && t < row + BLOCK; t++)
        _mm512_mask_storeu_ps(y + t * stride, there, _mm512_add_ps(_mm512_load_ps(made + (t - row) * BLOCK), bias));
}

// Sums of 32 rows by two blocks over inputs [first, last), which go on from those in `made` where `first` is not 0.
template <bool BOTH, bool PAIR>
AMX INLINE void square(const Rounded &x, const uint8_t *const (&lines)[2], int row, int first, int last, float *made) {
    constexpr int EACH = BLOCK * BLOCK;
    const uint16_t *left = x.words + tile_of(row, x.in) + first / TILE * NEXT_TILE, *below = left + (size_t)BLOCK * x.in;
    if (first == 0) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_loadd(0, made, 64);
        if (PAIR) _tile_loadd(1, made + EACH, 64);
        if (BOTH) _tile_loadd(2, made + 2 * EACH, 64);
        if (BOTH && PAIR) _tile_loadd(3, made + 3 * EACH, 64);
    }
    for (int k = first; k < last; k += TILE, left += NEXT_TILE, below += NEXT_TILE) {
        _tile_loadd(6, lines[0] + k * TILE, 64);
        _tile_loadd(4, left, 64);
        _tile_dpbf16ps(0, 4, 6);
        if (PAIR) {
            _tile_loadd(7, lines[1] + k * TILE, 64);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (BOTH) {
            _tile_loadd(5, below, 64);
            _tile_dpbf16ps(2, 5, 6);
            if (PAIR) _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, made, 64);
    if (PAIR) _tile_stored(1, made + EACH, 64);
    if (BOTH) _tile_stored(2, made + 2 * EACH, 64);
    if (BOTH && PAIR) _tile_stored(3, made + 3 * EACH, 64);
}

// The same of the first `rows` of the 32 rows, in vectors: as many sums at once as registers hold.
template <int B>
AMX INLINE void square_of_pairs(const Rounded &x, const uint8_t *const (&lines)[2], int row, int rows, int first, int last, float *made) {
    constexpr int EACH = BLOCK * BLOCK, ROWS = BLOCK / B;
    for (int t = 0; t < rows; t += ROWS) {
        const uint16_t *left = x.words + tile_of(row + t, x.in) + first / TILE * NEXT_TILE;
        float *to = made + (t / BLOCK) * 2 * EACH + t % BLOCK * BLOCK;
        __m512 sums[B][ROWS];
        for (int b = 0; b < B; b++)
            for (int r = 0; r < ROWS; r++) sums[b][r] = first ? _mm512_load_ps(to + b * EACH + r * BLOCK) : _mm512_setzero_ps();
        for (int k = first; k < last; k += TILE, left += NEXT_TILE) {
            const uint16_t *here[B];
            for (int b = 0; b < B; b++) here[b] = (const uint16_t *)(lines[b] + k * TILE);
            add_pairs<ROWS, B>(left, TILE, here, TILE / 2, sums);
        }
        for (int b = 0; b < B; b++)
            for (int r = 0; r < ROWS; r++) _mm512_store_ps(to + b * EACH + r * BLOCK, sums[b][r]);
    }
}

// Two blocks by all rows, 32 rows at once, over as many inputs as leave both blocks' lines near.
AMX void two_blocks(const Matrix &m, const Rounded &x, const uint8_t *const (&lines)[2], int block, int count, bool by_amx,
                    float *made, float *y, int64_t stride) {
    const int parts = (x.in + NEAR - 1) / NEAR, tiles = x.in / TILE;
    for (int part = 0; part < parts; part++) {
        const int first = tiles * part / parts * TILE, last = tiles * (part + 1) / parts * TILE;
        for (int row = 0; row < x.rows; row += 2 * BLOCK) {
            float *here = made + (size_t)row * 2 * BLOCK;
            const bool both = row + BLOCK < x.rows;
            const int left = x.rows - row < 2 * BLOCK ? x.rows - row : 2 * BLOCK;
            settled();
            if (!by_amx && count > 1) square_of_pairs<2>(x, lines, row, left, first, last, here);
            else if (!by_amx) square_of_pairs<1>(x, lines, row, left, first, last, here);
            else if (both && count > 1) square<true, true>(x, lines, row, first, last, here);
            else if (both) square<true, false>(x, lines, row, first, last, here);
            else if (count > 1) square<false, true>(x, lines, row, first, last, here);
            else square<false, false>(x, lines, row, first, last, here);
            settled();
            if (part + 1 < parts) continue;
            for (int i = 0; i < count; i++) {
                put(m, here + i * BLOCK * BLOCK, block + i, row, x.rows, y + i * BLOCK, stride);
                if (both) put(m, here + (2 + i) * BLOCK * BLOCK, block + i, row + BLOCK, x.rows, y + i * BLOCK, stride);
            }
        }
    }
}

}  // namespace

AMX void multiply_tiles(const Matrix &m, const Rounded &x, int first, int last, int level, uint8_t *room, float *y,
                        int64_t stride) {
    const Config config;
    const bool by_amx = level >= BY_AMX;
    const size_t each = (size_t)m.in * BLOCK * sizeof(uint16_t);
    float *made = (float *)(room + 2 * each);
    if (by_amx) configure(config);
    for (int block = first; block < last; block += 2) {
        const int count = block + 1 < last ? 2 : 1;
        const uint8_t *lines[2] = {room, room + each};
        for (int i = 0; i < count; i++) {
            if (m.kind == WORDS16) lines[i] = m.codes + (block + i) * block_bytes(m);
            else if (m.kind == SOME16) Expander(m, block + i, true).next(m.in, (uint16_t *)(room + i * each));
            else spread(m, block + i, room + i * each);
        }
        two_blocks(m, x, lines, block, count, by_amx, made, y + (block - first) * BLOCK, stride);
    }
    if (by_amx) _tile_release();
}

int trimtab_pairs() { return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512dq"); }
#else
void multiply_tiles(const Matrix &, const Rounded &, int, int, int, uint8_t *, float *, int64_t) {}
int trimtab_pairs() { return 0; }
#endif
