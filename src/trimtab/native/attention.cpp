// The attention of attention.h. Scores stand transposed, entries by rows, so that each line of 64 bytes is one entry and
// 16 rows: maxima and sums go lane by lane, and two lines beside each other are the right side of the next product.
//
//   S^T = K Q^T (entries, 16),  P^T = exp(S^T - max) in pairs of entries,  O^T = V^T P^T (size, 16)

#include "attention.h"

#include <cmath>
#include <cstring>

#include "pairs.h"
#include "curves.h"

#ifdef HAS_TILES
namespace {

constexpr int ROWS = 16, DIMS = 32, STEP = 4;  // tiles of sums at once

// Queries as pairs of dimensions: line j holds q(t, 2j), q(t, 2j + 1) of each row t, 0 where there is none.
AMX void pack(const Seen &s, uint16_t *to) {
    for (int t = 0; t < ROWS; t++)
        for (int j = 0; j < s.size; j += DIMS) {  // 16 pairs of a row, one below the other
            alignas(64) uint32_t pairs[ROWS] = {};
            if (t < s.rows) {
                const float *from = s.query + t * s.stride + j;
                _mm512_store_si512(pairs, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + ROWS), _mm512_loadu_ps(from)));
            }
            for (int i = 0; i < ROWS; i++) memcpy(to + ((size_t)(j / 2 + i) * ROWS + t) * 2, pairs + i, sizeof *pairs);
        }
}

// Lines of scores of entries [from, to), a multiple of KEYS.
AMX void multiply_keys(const Seen &s, const uint16_t *packed, int to, float *score) {
    const int64_t next = s.size / KEYS * TILE_OF_ENTRIES;  // from 16 entries to the next
    const uint16_t *key = s.key;
    for (int e = s.from; e < to; e += STEP * ROWS, score += STEP * ROWS * ROWS, key += STEP * next) {
        const int tiles = to - e < STEP * ROWS ? (to - e) / ROWS : STEP;  // 2 or 4
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (int d = 0; d < s.size; d += DIMS) {
            const uint16_t *tile = key + d / DIMS * TILE_OF_ENTRIES;
            _tile_loadd(6, packed + d * ROWS, 64);
            _tile_loadd(4, tile, 64);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(5, tile + next, 64);
            _tile_dpbf16ps(1, 5, 6);
            if (tiles < STEP) continue;
            _tile_loadd(4, tile + 2 * next, 64);
            _tile_dpbf16ps(2, 4, 6);
            _tile_loadd(5, tile + 3 * next, 64);
            _tile_dpbf16ps(3, 5, 6);
        }
        _tile_stored(0, score, 64);
        _tile_stored(1, score + ROWS * ROWS, 64);
        if (tiles < STEP) continue;
        _tile_stored(2, score + 2 * ROWS * ROWS, 64);
        _tile_stored(3, score + 3 * ROWS * ROWS, 64);
    }
}

// In vectors: 16 rows, whose tiles stand one behind the other, by as many lines.
AMX INLINE void tiles_of_pairs(const uint16_t *tile, const uint16_t *lines, int tiles, float *made) {
    __m512 sums[1][ROWS];
    for (int r = 0; r < ROWS; r++) sums[0][r] = _mm512_setzero_ps();
    for (int i = 0; i < tiles; i++) {
        const uint16_t *const one[1] = {lines + i * TILE_OF_ENTRIES};
        add_pairs<ROWS, 1>(tile + i * TILE_OF_ENTRIES, KEYS, one, KEYS / 2, sums);
    }
    for (int r = 0; r < ROWS; r++) _mm512_storeu_ps(made + r * ROWS, sums[0][r]);
}

AMX INLINE __m512 exponentials(__m512 x) {  // exponential() of curves.h, 0 below -87
    alignas(64) float lane[ROWS];
    const __mmask16 some = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0f), _CMP_GE_OQ);
    _mm512_store_ps(lane, _mm512_maskz_mov_ps(some, x));
    for (int t = 0; t < ROWS; t++) lane[t] = exponential(lane[t]);
    return _mm512_maskz_mov_ps(some, _mm512_load_ps(lane));
}

// What each row sees, scaled, and the largest of it.
AMX __m512 mask(const Seen &s, int to, float *score) {
    const __m512i first = _mm512_loadu_si512(s.first), last = _mm512_loadu_si512(s.last);
    const __m512 nothing = _mm512_set1_ps(-INFINITY), scaling = _mm512_set1_ps(s.scaling);
    __m512 most = nothing;
    for (int e = s.from; e < to; e++, score += ROWS) {
        const __m512i here = _mm512_set1_epi32(e);
        const __mmask16 seen = _mm512_cmple_epi32_mask(first, here) & _mm512_cmplt_epi32_mask(here, last);
        __m512 line = _mm512_mul_ps(_mm512_loadu_ps(score), scaling);
        if (s.cap > 0.0f) {
            _mm512_storeu_ps(score, line);
            for (int t = 0; t < ROWS; t++) score[t] = s.cap * std::tanh(score[t] / s.cap);
            line = _mm512_loadu_ps(score);
        }
        if (s.bias && seen) line = _mm512_add_ps(line, _mm512_set1_ps(s.bias[e]));
        line = _mm512_mask_mov_ps(nothing, seen, line);
        most = _mm512_max_ps(most, line);
        _mm512_storeu_ps(score, line);
    }
    return most;
}

// Weights before they are divided by their sums, as pairs of entries; the sums are those of what is multiplied.
AMX __m512 weigh(const float *score, __m512 most, int count, uint16_t *to) {
    __m512 total = _mm512_setzero_ps();
    for (int e = 0; e < count; e += 2, score += 2 * ROWS, to += 2 * ROWS) {
        const __m512 one = exponentials(_mm512_sub_ps(_mm512_loadu_ps(score), most));
        const __m512 other = exponentials(_mm512_sub_ps(_mm512_loadu_ps(score + ROWS), most));
        const __m512i both = pair(one, other), upper = _mm512_set1_epi32((int)0xffff0000);
        const __m512 taken = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
        total = _mm512_add_ps(total, _mm512_add_ps(taken, _mm512_castsi512_ps(_mm512_and_si512(both, upper))));
        _mm512_storeu_si512(to, both);
    }
    return total;
}

// Rows of y, 16 numbers each, from lines of `made` that hold one number of every row, over `total`.
AMX INLINE void turn_back(const float *made, const float *total, int rows, float *y, int64_t out) {
    const __m512 by = _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_loadu_ps(total));
    __m512 a[ROWS], b[ROWS];
    for (int i = 0; i < ROWS; i++) a[i] = _mm512_mul_ps(_mm512_load_ps(made + i * ROWS), by);
    for (int i = 0; i < ROWS; i += 2) {  // squares of 2, of 4, of 8 and of 16 change sides in turn
        b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
    }
    for (int i = 0; i < ROWS; i += 4)
        for (int j = 0; j < 2; j++) {
            const __m512d one = _mm512_castps_pd(b[i + j]), other = _mm512_castps_pd(b[i + j + 2]);
            a[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(one, other));
            a[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(one, other));
        }
    for (int j = 0; j < 4; j++) {  // a[4 i + j]: column 4 q + j of rows 4 i .. 4 i + 3 in quarter q
        const __m512 first = _mm512_shuffle_f32x4(a[j], a[j + 4], 0x88), second = _mm512_shuffle_f32x4(a[j], a[j + 4], 0xdd);
        const __m512 third = _mm512_shuffle_f32x4(a[j + 8], a[j + 12], 0x88), last = _mm512_shuffle_f32x4(a[j + 8], a[j + 12], 0xdd);
        b[j] = _mm512_shuffle_f32x4(first, third, 0x88);
        b[j + 4] = _mm512_shuffle_f32x4(second, last, 0x88);
        b[j + 8] = _mm512_shuffle_f32x4(first, third, 0xdd);
        b[j + 12] = _mm512_shuffle_f32x4(second, last, 0xdd);
    }
    for (int t = 0; t < rows; t++) _mm512_storeu_ps(y + t * out, b[t]);
}

AMX void multiply_values(const Seen &s, const uint16_t *weight, int count, bool by_amx, const float *total, float *y, int64_t out) {
    alignas(64) float made[STEP][ROWS * ROWS];
    const int64_t next = s.across / KEYS * TILE_OF_ENTRIES;  // from 16 numbers to the next
    for (int d = 0; d < s.size; d += 2 * ROWS) {
        const uint16_t *value = s.turned + d / ROWS * next;
        if (by_amx) {
            _tile_zero(0);
            _tile_zero(1);
            for (int e = 0; e < count; e += KEYS) {
                const uint16_t *tile = value + e / KEYS * TILE_OF_ENTRIES;
                _tile_loadd(6, weight + e * ROWS, 64);
                _tile_loadd(4, tile, 64);
                _tile_dpbf16ps(0, 4, 6);
                _tile_loadd(5, tile + next, 64);
                _tile_dpbf16ps(1, 5, 6);
            }
            _tile_stored(0, made[0], 64);
            _tile_stored(1, made[1], 64);
            settled();
        } else {
            for (int i = 0; i < 2; i++) tiles_of_pairs(value + i * next, weight, count / KEYS, made[i]);
        }
        turn_back(made[0], total, s.rows, y + d, out);
        turn_back(made[1], total, s.rows, y + d + ROWS, out);
    }
}

}  // namespace

void tile_keys(const uint16_t *key, int64_t next, int size, int dim, int from, int count, int64_t across, uint16_t *tiles) {
    for (int64_t e = 0; e < across; e++) {
        uint16_t *to = tiles + (e / ROWS * (size / KEYS) + dim / KEYS) * TILE_OF_ENTRIES + e % ROWS * KEYS;
        if (from + e < count) memcpy(to, key + (from + e) * next + dim, sizeof(uint16_t) * KEYS);
        else memset(to, 0, sizeof(uint16_t) * KEYS);
    }
}

void tile_values(const uint16_t *value, int64_t next, int dim, int from, int count, int64_t across, uint16_t *tiles) {
    for (int64_t e = 0; e < across; e += KEYS)  // a square of 32 by 32 lies near
        for (int d = dim; d < dim + KEYS; d++) {
            uint16_t *to = tiles + (d / ROWS * (across / KEYS) + e / KEYS) * TILE_OF_ENTRIES + d % ROWS * KEYS;
            for (int i = 0; i < KEYS; i++) {
                const int64_t entry = from + e + i;
                to[i] = entry < count ? value[entry * next + d] : 0;
            }
        }
}

AMX void attend_tiles(const Seen &s, bool by_amx, float *room, float *y, int64_t out) {
    const Config config;
    int to = s.from;
    for (int t = 0; t < s.rows; t++) to = s.last[t] > to ? s.last[t] : to;
    to = s.from + (to - s.from + KEYS - 1) / KEYS * KEYS;
    float *score = (float *)(((uintptr_t)room + 63) / 64 * 64), total[ROWS];
    uint16_t *weight = (uint16_t *)(score + s.across * ROWS), *packed = weight + s.across * ROWS;
    pack(s, packed);
    settled();
    if (by_amx) {
        configure(config);
        multiply_keys(s, packed, to, score);
        settled();
    } else {
        for (int e = 0; e < to - s.from; e += ROWS)
            tiles_of_pairs(s.key + (int64_t)e * s.size, packed, s.size / KEYS, score + e * ROWS);
    }
    const __m512 most = mask(s, to, score);
    _mm512_storeu_ps(total, weigh(score, most, to - s.from, weight));
    settled();
    multiply_values(s, weight, to - s.from, by_amx, total, y, out);
    if (by_amx) _tile_release();
}
#else
void tile_keys(const uint16_t *, int64_t, int, int, int, int, int64_t, uint16_t *) {}
void tile_values(const uint16_t *, int64_t, int, int, int, int64_t, uint16_t *) {}
void attend_tiles(const Seen &, bool, float *, float *, int64_t) {}
#endif
