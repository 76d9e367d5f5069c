// The products of product.h in vectors of 512 bits: one lane of 32 bits for each of a block's 16 rows.

#include <cstring>

#include "expand.h"
#include "grid512.h"

#if defined(__x86_64__) && defined(__GNUC__)
namespace {

constexpr int AHEAD = 2048;  // bytes that are fetched before they are asked for

VNNI INLINE __m512i four(const int8_t *code) {
    int32_t bits;
    memcpy(&bits, code, sizeof bits);
    return _mm512_set1_epi32(bits);
}

VNNI INLINE __m512i line_at(const uint8_t *at) {
    _mm_prefetch((const char *)at + AHEAD, _MM_HINT_T0);
    return _mm512_loadu_si512(at);
}

// By inputs in two bytes, each summed with the codes as integers.
template <int T, int BITS> VNNI INLINE void by_whole(const Matrix &m, const Rounded &x, int block, int from, __m512 *total) {
    const int lines = BITS == 4 ? 8 : 4, groups = m.in / m.group, each = m.group / x.chunk, chunks = m.in / x.chunk;
    const uint8_t *at = m.codes + block * block_bytes(m);
    const __m512i mask = _mm512_set1_epi8(15);
    for (int g = 0; g < groups; g++) {
        const int64_t place = ((int64_t)block * groups + g) * BLOCK;
        const __m512 zero = zeros(m, place), scale = scales(m, place);
        __m512 part[T];
        for (int t = 0; t < T; t++) part[t] = _mm512_setzero_ps();
        for (int c = g * each; c < (g + 1) * each; c++) {
            __m512i upper[T], lower[T];
            for (int t = 0; t < T; t++) upper[t] = lower[t] = _mm512_setzero_si512();
            for (int k = 0; k < x.chunk; k += lines, at += 64) {
                const __m512i line = line_at(at), first = BITS == 4 ? _mm512_and_si512(line, mask) : line;
                const __m512i second = BITS == 4 ? _mm512_and_si512(_mm512_srli_epi16(line, 4), mask) : line;
                for (int t = 0; t < T; t++) {
                    const int64_t here = (int64_t)(from + t) * m.in + c * x.chunk + k;
                    upper[t] = _mm512_dpbusd_epi32(upper[t], first, four(x.code + here));
                    lower[t] = _mm512_dpbusd_epi32(lower[t], first, four(x.low + here));
                    if (BITS == 8) continue;
                    upper[t] = _mm512_dpbusd_epi32(upper[t], second, four(x.code + here + 4));
                    lower[t] = _mm512_dpbusd_epi32(lower[t], second, four(x.low + here + 4));
                }
            }
            for (int t = 0; t < T; t++) {
                const int64_t here = (int64_t)(from + t) * chunks + c;
                const __m512 whole = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(upper[t], 8), lower[t]));
                const __m512 value = _mm512_fnmadd_ps(zero, _mm512_set1_ps(x.sum[here]), whole);
                part[t] = _mm512_fmadd_ps(value, _mm512_set1_ps(x.scale[here]), part[t]);
            }
        }
        for (int t = 0; t < T; t++) total[t] = _mm512_fmadd_ps(part[t], scale, total[t]);
    }
}

VNNI INLINE __m512 looked(__m512i line, int shift, __m512 table) {  // the lane's lowest four bits behind the shift
    return _mm512_permutexvar_ps(_mm512_srli_epi32(line, shift), table);
}

// By inputs as they are, every 4-bit code through the table of levels.
template <int T> VNNI INLINE void by_levels(const Matrix &m, const Rounded &x, int block, int from, __m512 *total) {
    const int groups = m.in / m.group;
    const uint8_t *at = m.codes + block * block_bytes(m);
    const __m512 table = _mm512_loadu_ps(m.levels);
    for (int g = 0; g < groups; g++) {
        __m512 part[T][4];
        for (int t = 0; t < T; t++)
            for (int i = 0; i < 4; i++) part[t][i] = _mm512_setzero_ps();
        for (int k = g * m.group; k < (g + 1) * m.group; k += 8, at += 64) {
            const __m512i line = line_at(at);
            for (int i = 0; i < 4; i++) {
                const __m512 first = looked(line, 8 * i, table), second = looked(line, 8 * i + 4, table);
                for (int t = 0; t < T; t++) {
                    const float *in = x.x + (int64_t)(from + t) * m.in + k + i;
                    part[t][i] = _mm512_fmadd_ps(first, _mm512_set1_ps(in[0]), part[t][i]);
                    part[t][i] = _mm512_fmadd_ps(second, _mm512_set1_ps(in[4]), part[t][i]);
                }
            }
        }
        const __m512 scale = scales(m, ((int64_t)block * groups + g) * BLOCK);
        for (int t = 0; t < T; t++) {
            const __m512 sum = _mm512_add_ps(_mm512_add_ps(part[t][0], part[t][1]), _mm512_add_ps(part[t][2], part[t][3]));
            total[t] = _mm512_fmadd_ps(sum, scale, total[t]);
        }
    }
}

// Lines of inputs [first, last); odd inputs' sums stand apart.
template <int T> VNNI INLINE void by_words(const uint8_t *at, const Rounded &x, int first, int last, int from, __m512 *total, __m512 *others) {
    const __m512i high = _mm512_set1_epi32((int)0xffff0000);
    for (int k = first; k < last; k += 2, at += 64) {
        const __m512i line = line_at(at);
        const __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(line, 16));
        const __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(line, high));
        for (int t = 0; t < T; t++) {
            const float *in = x.x + (int64_t)(from + t) * x.in + k;
            total[t] = _mm512_fmadd_ps(even, _mm512_set1_ps(in[0]), total[t]);
            others[t] = _mm512_fmadd_ps(odd, _mm512_set1_ps(in[1]), others[t]);
        }
    }
}

template <int T> VNNI INLINE void by_pieces(const Matrix &m, const Rounded &x, int block, int from, __m512 *total) {
    __m512 others[T];
    for (int t = 0; t < T; t++) others[t] = _mm512_setzero_ps();
    if (m.kind == WORDS16) {
        by_words<T>(m.codes + block * block_bytes(m), x, 0, m.in, from, total, others);
    } else {
        alignas(64) uint16_t lines[PIECE * BLOCK];
        Expander expander(m, block, true);
        for (int first = 0; first < m.in; first += PIECE) {
            const int last = first + PIECE < m.in ? first + PIECE : m.in;
            expander.next(last - first, lines);
            by_words<T>((const uint8_t *)lines, x, first, last, from, total, others);
        }
    }
    for (int t = 0; t < T; t++) total[t] = _mm512_add_ps(total[t], others[t]);
}

template <int T> VNNI INLINE void by_numbers(const Matrix &m, const Rounded &x, int block, int from, __m512 *total) {
    const uint8_t *at = m.codes + block * block_bytes(m);
    for (int k = 0; k < m.in; k++, at += 64) {
        const __m512 line = _mm512_castsi512_ps(line_at(at));
        for (int t = 0; t < T; t++)
            total[t] = _mm512_fmadd_ps(line, _mm512_set1_ps(x.x[(int64_t)(from + t) * m.in + k]), total[t]);
    }
}

template <int T> VNNI void of_block(const Matrix &m, const Rounded &x, int block, int from, bool, float *sums) {
    __m512 total[T];
    for (int t = 0; t < T; t++) total[t] = _mm512_setzero_ps();
    if (m.levels) by_levels<T>(m, x, block, from, total);
    else if (m.kind == CODES4) by_whole<T, 4>(m, x, block, from, total);
    else if (m.kind == CODES8) by_whole<T, 8>(m, x, block, from, total);
    else if (m.kind == WORDS16 || m.kind == SOME16) by_pieces<T>(m, x, block, from, total);
    else by_numbers<T>(m, x, block, from, total);
    for (int t = 0; t < T; t++) _mm512_storeu_ps(sums + t * BLOCK, total[t]);
}

}  // namespace

const Block BY_AVX512[MOST] = {of_block<1>, of_block<2>, of_block<3>, of_block<4>};
#else
const Block BY_AVX512[MOST] = {};
#endif
