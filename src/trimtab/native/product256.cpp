// The products of product.h in vectors of 256 bits: the block's rows in two halves of 8.

#include "expand.h"

#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2,fma,f16c")))

namespace {

constexpr int HALF = BLOCK / 2;

AVX2 INLINE __m256 scales(const Matrix &m, int64_t at) {
    if (m.stored == FLOAT32) return _mm256_loadu_ps((const float *)m.scale + at);
    const __m128i bits = _mm_loadu_si128((const __m128i *)((const uint16_t *)m.scale + at));
    if (m.stored == FLOAT16) return _mm256_cvtph_ps(bits);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

AVX2 INLINE __m256 zeros(const Matrix &m, int64_t at) {
    if (m.levels) return _mm256_setzero_ps();
    if (!m.zero) return _mm256_set1_ps((float)(1 << (m.kind - 1)));
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(m.zero + at))));
}

AVX2 INLINE __m256i four(const int8_t *code) {
    int32_t bits;
    memcpy(&bits, code, sizeof bits);
    return _mm256_set1_epi32(bits);
}

// Sums of products of four unsigned and four signed bytes; no unsigned byte is above 128, so nothing saturates.
AVX2 INLINE __m256i dot(__m256i sums, __m256i bytes, __m256i by) {
    return _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, by), _mm256_set1_epi16(1)));
}

// 8-bit codes are taken less 128 here, and |w| by sign(w) x.
template <int T, int BITS> AVX2 INLINE void by_whole(const Matrix &m, const Rounded &x, int block, int half, int from, __m256 *total) {
    const int lines = BITS == 4 ? 8 : 4, groups = m.in / m.group, each = m.group / x.chunk, chunks = m.in / x.chunk;
    const uint8_t *at = m.codes + block * block_bytes(m) + 32 * half;
    const __m256i low = _mm256_set1_epi8(15), flip = _mm256_set1_epi8((char)128);
    for (int g = 0; g < groups; g++) {
        const int64_t place = ((int64_t)block * groups + g) * BLOCK + HALF * half;
        const __m256 scale = scales(m, place), less = _mm256_set1_ps(BITS == 8 ? 128.0f : 0.0f);
        const __m256 zero = _mm256_sub_ps(zeros(m, place), less);
        __m256 part[T];
        for (int t = 0; t < T; t++) part[t] = _mm256_setzero_ps();
        for (int c = g * each; c < (g + 1) * each; c++) {
            __m256i sums[T];
            for (int t = 0; t < T; t++) sums[t] = _mm256_setzero_si256();
            for (int k = 0; k < x.chunk; k += lines, at += 64) {
                const __m256i line = _mm256_loadu_si256((const __m256i *)at);
                for (int t = 0; t < T; t++) {
                    const int8_t *code = x.code + (int64_t)(from + t) * m.in + c * x.chunk + k;
                    if (BITS == 4) {
                        sums[t] = dot(sums[t], _mm256_and_si256(line, low), four(code));
                        sums[t] = dot(sums[t], _mm256_and_si256(_mm256_srli_epi16(line, 4), low), four(code + 4));
                    } else {
                        const __m256i w = _mm256_xor_si256(line, flip);
                        sums[t] = dot(sums[t], _mm256_abs_epi8(w), _mm256_sign_epi8(four(code), w));
                    }
                }
            }
            for (int t = 0; t < T; t++) {
                const int64_t here = (int64_t)(from + t) * chunks + c;
                const __m256 value = _mm256_fnmadd_ps(zero, _mm256_set1_ps(x.sum[here]), _mm256_cvtepi32_ps(sums[t]));
                part[t] = _mm256_fmadd_ps(value, _mm256_set1_ps(x.scale[here]), part[t]);
            }
        }
        for (int t = 0; t < T; t++) total[t] = _mm256_fmadd_ps(part[t], scale, total[t]);
    }
}

AVX2 INLINE __m256 looked(__m256i codes, __m256 first, __m256 second) {  // of a table of 16, by halves
    const __m256 low = _mm256_permutevar8x32_ps(first, codes), high = _mm256_permutevar8x32_ps(second, codes);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(codes, 28)));
}

template <int T, int BITS> AVX2 INLINE void by_float(const Matrix &m, const Rounded &x, int block, int half, int from, __m256 *total) {
    const int lines = BITS == 4 ? 8 : 4, groups = m.in / m.group, each = m.group / x.chunk, chunks = m.in / x.chunk;
    const uint8_t *at = m.codes + block * block_bytes(m) + 32 * half;
    const __m256i mask = _mm256_set1_epi32(BITS == 4 ? 15 : 255);
    const __m256 first = m.levels ? _mm256_loadu_ps(m.levels) : _mm256_setzero_ps();
    const __m256 second = m.levels ? _mm256_loadu_ps(m.levels + HALF) : _mm256_setzero_ps();
    for (int g = 0; g < groups; g++) {
        const int64_t place = ((int64_t)block * groups + g) * BLOCK + HALF * half;
        __m256 part[T];
        for (int t = 0; t < T; t++) part[t] = _mm256_setzero_ps();
        for (int k = g * m.group; k < (g + 1) * m.group; k += lines, at += 64) {
            const __m256i line = _mm256_loadu_si256((const __m256i *)at);
            for (int i = 0; i < lines; i++) {
                const int shift = BITS == 4 ? 8 * (i % 4) + 4 * (i / 4) : 8 * i;
                const __m256i codes = _mm256_and_si256(_mm256_srli_epi32(line, shift), mask);
                const __m256 w = m.levels ? looked(codes, first, second) : _mm256_cvtepi32_ps(codes);
                for (int t = 0; t < T; t++)
                    part[t] = _mm256_fmadd_ps(w, _mm256_set1_ps(x.x[(int64_t)(from + t) * m.in + k + i]), part[t]);
            }
        }
        const __m256 zero = zeros(m, place), scale = scales(m, place);
        for (int t = 0; t < T; t++) {
            float all = 0.0f;
            for (int c = g * each; c < (g + 1) * each; c++) all += x.total[(int64_t)(from + t) * chunks + c];
            total[t] = _mm256_fmadd_ps(_mm256_fnmadd_ps(zero, _mm256_set1_ps(all), part[t]), scale, total[t]);
        }
    }
}

// Lines of inputs [first, last).
template <int T> AVX2 INLINE void by_words(const uint8_t *at, const Rounded &x, int first, int last, int from, __m256 *total) {
    const __m256i high = _mm256_set1_epi32((int)0xffff0000);
    for (int k = first; k < last; k += 2, at += 64) {
        const __m256i line = _mm256_loadu_si256((const __m256i *)at);
        const __m256 even = _mm256_castsi256_ps(_mm256_slli_epi32(line, 16));
        const __m256 odd = _mm256_castsi256_ps(_mm256_and_si256(line, high));
        for (int t = 0; t < T; t++) {
            const float *in = x.x + (int64_t)(from + t) * x.in + k;
            total[t] = _mm256_fmadd_ps(even, _mm256_set1_ps(in[0]), total[t]);
            total[t] = _mm256_fmadd_ps(odd, _mm256_set1_ps(in[1]), total[t]);
        }
    }
}

template <int T> AVX2 INLINE void by_pieces(const Matrix &m, const Rounded &x, int block, int half, int from, __m256 *total) {
    if (m.kind == WORDS16) {
        by_words<T>(m.codes + block * block_bytes(m) + 32 * half, x, 0, m.in, from, total);
        return;
    }
    alignas(64) uint16_t lines[PIECE * BLOCK];
    Expander expander(m, block, false);
    for (int first = 0; first < m.in; first += PIECE) {
        const int last = first + PIECE < m.in ? first + PIECE : m.in;
        expander.next(last - first, lines);
        by_words<T>((const uint8_t *)lines + 32 * half, x, first, last, from, total);
    }
}

template <int T> AVX2 INLINE void by_numbers(const Matrix &m, const Rounded &x, int block, int half, int from, __m256 *total) {
    const uint8_t *at = m.codes + block * block_bytes(m) + 32 * half;
    for (int k = 0; k < m.in; k++, at += 64) {
        const __m256 line = _mm256_loadu_ps((const float *)at);
        for (int t = 0; t < T; t++)
            total[t] = _mm256_fmadd_ps(line, _mm256_set1_ps(x.x[(int64_t)(from + t) * m.in + k]), total[t]);
    }
}

template <int T> AVX2 void of_block(const Matrix &m, const Rounded &x, int block, int from, bool whole, float *sums) {
    for (int half = 0; half < 2; half++) {
        __m256 total[T];
        for (int t = 0; t < T; t++) total[t] = _mm256_setzero_ps();
        if (m.kind == CODES4 && whole) by_whole<T, 4>(m, x, block, half, from, total);
        else if (m.kind == CODES4) by_float<T, 4>(m, x, block, half, from, total);
        else if (m.kind == CODES8 && whole) by_whole<T, 8>(m, x, block, half, from, total);
        else if (m.kind == CODES8) by_float<T, 8>(m, x, block, half, from, total);
        else if (m.kind == WORDS16 || m.kind == SOME16) by_pieces<T>(m, x, block, half, from, total);
        else by_numbers<T>(m, x, block, half, from, total);
        for (int t = 0; t < T; t++) _mm256_storeu_ps(sums + t * BLOCK + HALF * half, total[t]);
    }
}

}  // namespace

const Block BY_AVX2[MOST] = {of_block<1>, of_block<2>, of_block<3>, of_block<4>};
#else
const Block BY_AVX2[MOST] = {};
#endif
