// The products of product.h, for three kinds of CPU.

#include "product.h"

#include <cmath>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define X86 1
#define AVX2 __attribute__((target("avx2,fma,f16c")))
#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")))
#endif

namespace {

constexpr int MOST = 4;  // rows of inputs at once

INLINE float half_of(uint16_t bits) {  // of float16
    const uint32_t sign = (uint32_t)(bits & 0x8000) << 16, size = bits & 0x7fff;
    uint32_t made;
    if (size >= 0x7c00) {
        made = 0x7f800000 | (size & 0x3ff) << 13;
    } else if (size >= 0x400) {
        made = (size << 13) + 0x38000000;
    } else {
        const float small = (float)size * 5.9604644775390625e-8f;
        memcpy(&made, &small, sizeof made);
    }
    made |= sign;
    float value;
    memcpy(&value, &made, sizeof value);
    return value;
}

INLINE float scale_at(const Matrix &m, int64_t at) {
    if (m.stored == FLOAT32) return ((const float *)m.scale)[at];
    const uint16_t bits = ((const uint16_t *)m.scale)[at];
    return m.stored == BFLOAT16 ? wide(bits) : half_of(bits);
}

INLINE int code_at(const Matrix &m, const uint8_t *lines, int row, int input) {
    if (m.kind == CODES8) return lines[(input / 4) * 64 + 4 * row + input % 4];
    const int byte = lines[(input / 8) * 64 + 4 * row + input % 4];
    return input % 8 < 4 ? byte & 15 : byte >> 4;
}

INLINE size_t line_bytes(const Matrix &m) { return (size_t)m.in * BLOCK * m.kind / 8; }  // of one block

void plain(const Matrix &m, const Rounded &x, int block, int from, int rows, float *y, int64_t stride) {
    const uint8_t *lines = m.codes + block * line_bytes(m);
    const int groups = m.kind == WORDS16 ? 1 : m.in / m.group, base = 1 << (m.kind - 1);
    const int64_t at = (int64_t)block * groups * BLOCK;
    for (int t = 0; t < rows; t++)
        for (int r = 0; r < BLOCK && block * BLOCK + r < m.out; r++) {
            float total = 0.0f;
            if (m.kind == WORDS16) {
                const uint16_t *words = (const uint16_t *)lines;
                const float *in = x.x + (int64_t)(from + t) * m.in;
                for (int i = 0; i < m.in; i++) total += wide(words[(i / 2) * 32 + 2 * r + i % 2]) * in[i];
            } else {
                const int chunks = m.in / x.chunk, each = m.group / x.chunk;
                const int8_t *code = x.code + (int64_t)(from + t) * m.in;
                const float *scale = x.scale + (int64_t)(from + t) * chunks, *sum = x.sum + (int64_t)(from + t) * chunks;
                for (int g = 0; g < groups; g++) {
                    const float zero = m.zero ? m.zero[at + g * BLOCK + r] : base;
                    float part = 0.0f;
                    for (int c = g * each; c < (g + 1) * each; c++) {
                        int32_t whole = 0;
                        for (int i = c * x.chunk; i < (c + 1) * x.chunk; i++) whole += code_at(m, lines, r, i) * code[i];
                        part += scale[c] * ((float)whole - zero * sum[c]);
                    }
                    total += part * scale_at(m, at + g * BLOCK + r);
                }
            }
            y[(int64_t)t * stride + block * BLOCK + r] = total + (m.bias ? m.bias[block * BLOCK + r] : 0.0f);
        }
}

#ifdef X86

AVX2 INLINE __m256 scales8(const Matrix &m, int64_t at) {
    if (m.stored == FLOAT32) return _mm256_loadu_ps((const float *)m.scale + at);
    const __m128i bits = _mm_loadu_si128((const __m128i *)((const uint16_t *)m.scale + at));
    if (m.stored == FLOAT16) return _mm256_cvtph_ps(bits);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

// Sums of products of four unsigned and four signed bytes; no unsigned byte is above 128, so nothing saturates.
AVX2 INLINE __m256i dot8(__m256i sums, __m256i bytes, __m256i by) {
    return _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, by), _mm256_set1_epi16(1)));
}

AVX2 INLINE __m256i four(const int8_t *code) {
    int32_t bits;
    memcpy(&bits, code, sizeof bits);
    return _mm256_set1_epi32(bits);
}

// 8 of the block's rows, `half` 0 or 1. At 8 bits codes are taken less 128, and |w| by sign(w) x.
template <int T, int BITS> AVX2 INLINE void half8(const Matrix &m, const Rounded &x, int block, int half, int from, __m256 *total) {
    const int lines = BITS == 4 ? 8 : 4, groups = m.in / m.group, each = m.group / x.chunk, chunks = m.in / x.chunk;
    const uint8_t *at = m.codes + block * line_bytes(m) + 32 * half;
    const __m256i low = _mm256_set1_epi8(15), flip = _mm256_set1_epi8((char)128);
    for (int t = 0; t < T; t++) total[t] = _mm256_setzero_ps();
    for (int g = 0; g < groups; g++) {
        const int64_t place = ((int64_t)block * groups + g) * BLOCK + 8 * half;
        __m256 zero = _mm256_set1_ps(8.0f), part[T];
        if (m.zero) zero = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(m.zero + place))));
        else if (BITS == 8) zero = _mm256_set1_ps(128.0f);
        if (BITS == 8) zero = _mm256_sub_ps(zero, _mm256_set1_ps(128.0f));
        for (int t = 0; t < T; t++) part[t] = _mm256_setzero_ps();
        for (int c = g * each; c < (g + 1) * each; c++) {
            __m256i sums[T];
            for (int t = 0; t < T; t++) sums[t] = _mm256_setzero_si256();
            for (int k = 0; k < x.chunk; k += lines, at += 64) {
                const __m256i line = _mm256_loadu_si256((const __m256i *)at);
                for (int t = 0; t < T; t++) {
                    const int8_t *code = x.code + (int64_t)(from + t) * m.in + c * x.chunk + k;
                    if (BITS == 4) {
                        sums[t] = dot8(sums[t], _mm256_and_si256(line, low), four(code));
                        sums[t] = dot8(sums[t], _mm256_and_si256(_mm256_srli_epi16(line, 4), low), four(code + 4));
                    } else {
                        const __m256i w = _mm256_xor_si256(line, flip);
                        sums[t] = dot8(sums[t], _mm256_abs_epi8(w), _mm256_sign_epi8(four(code), w));
                    }
                }
            }
            for (int t = 0; t < T; t++) {
                const int64_t here = (int64_t)(from + t) * chunks + c;
                const __m256 value = _mm256_fnmadd_ps(zero, _mm256_set1_ps(x.sum[here]), _mm256_cvtepi32_ps(sums[t]));
                part[t] = _mm256_fmadd_ps(value, _mm256_set1_ps(x.scale[here]), part[t]);
            }
        }
        const __m256 scale = scales8(m, place);
        for (int t = 0; t < T; t++) total[t] = _mm256_fmadd_ps(part[t], scale, total[t]);
    }
}

template <int T> AVX2 INLINE void words8(const Matrix &m, const Rounded &x, int block, int half, int from, __m256 *total) {
    const uint8_t *at = m.codes + block * line_bytes(m) + 32 * half;
    const __m256i high = _mm256_set1_epi32((int)0xffff0000);
    for (int t = 0; t < T; t++) total[t] = _mm256_setzero_ps();
    for (int k = 0; k < m.in; k += 2, at += 64) {
        const __m256i line = _mm256_loadu_si256((const __m256i *)at);
        const __m256 even = _mm256_castsi256_ps(_mm256_slli_epi32(line, 16));
        const __m256 odd = _mm256_castsi256_ps(_mm256_and_si256(line, high));
        for (int t = 0; t < T; t++) {
            const float *in = x.x + (int64_t)(from + t) * m.in + k;
            total[t] = _mm256_fmadd_ps(even, _mm256_set1_ps(in[0]), total[t]);
            total[t] = _mm256_fmadd_ps(odd, _mm256_set1_ps(in[1]), total[t]);
        }
    }
}

template <int T> AVX2 void by_avx2(const Matrix &m, const Rounded &x, int block, int from, float *y, int64_t stride) {
    __m256 total[T];
    for (int half = 0; half < 2; half++) {
        if (m.kind == CODES4) half8<T, 4>(m, x, block, half, from, total);
        else if (m.kind == CODES8) half8<T, 8>(m, x, block, half, from, total);
        else words8<T>(m, x, block, half, from, total);
        const int first = block * BLOCK + 8 * half, left = m.out - first < 8 ? m.out - first : 8;
        for (int t = 0; t < T; t++) {
            float made[8];
            _mm256_storeu_ps(made, total[t]);
            for (int r = 0; r < left; r++) y[(int64_t)t * stride + first + r] = made[r] + (m.bias ? m.bias[first + r] : 0.0f);
        }
    }
}

VNNI INLINE __m512 scales16(const Matrix &m, int64_t at) {
    if (m.stored == FLOAT32) return _mm512_loadu_ps((const float *)m.scale + at);
    const __m256i bits = _mm256_loadu_si256((const __m256i *)((const uint16_t *)m.scale + at));
    if (m.stored == FLOAT16) return _mm512_cvtph_ps(bits);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

VNNI INLINE __m512i four16(const int8_t *code) {
    int32_t bits;
    memcpy(&bits, code, sizeof bits);
    return _mm512_set1_epi32(bits);
}

template <int T, int BITS> VNNI INLINE void codes16(const Matrix &m, const Rounded &x, int block, int from, __m512 *total) {
    const int lines = BITS == 4 ? 8 : 4, groups = m.in / m.group, each = m.group / x.chunk, chunks = m.in / x.chunk;
    const uint8_t *at = m.codes + block * line_bytes(m);
    const __m512i low = _mm512_set1_epi8(15);
    for (int t = 0; t < T; t++) total[t] = _mm512_setzero_ps();
    for (int g = 0; g < groups; g++) {
        const int64_t place = ((int64_t)block * groups + g) * BLOCK;
        __m512 zero = _mm512_set1_ps(BITS == 4 ? 8.0f : 128.0f), part[T];
        if (m.zero) zero = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(m.zero + place))));
        for (int t = 0; t < T; t++) part[t] = _mm512_setzero_ps();
        for (int c = g * each; c < (g + 1) * each; c++) {
            __m512i sums[T], others[T];
            for (int t = 0; t < T; t++) sums[t] = others[t] = _mm512_setzero_si512();
            for (int k = 0; k < x.chunk; k += lines, at += 64) {
                const __m512i line = _mm512_loadu_si512(at);
                _mm_prefetch((const char *)at + 2048, _MM_HINT_T0);
                for (int t = 0; t < T; t++) {
                    const int8_t *code = x.code + (int64_t)(from + t) * m.in + c * x.chunk + k;
                    if (BITS == 4) {
                        sums[t] = _mm512_dpbusd_epi32(sums[t], _mm512_and_si512(line, low), four16(code));
                        others[t] = _mm512_dpbusd_epi32(others[t], _mm512_and_si512(_mm512_srli_epi16(line, 4), low), four16(code + 4));
                    } else {
                        sums[t] = _mm512_dpbusd_epi32(sums[t], line, four16(code));
                    }
                }
            }
            for (int t = 0; t < T; t++) {
                const int64_t here = (int64_t)(from + t) * chunks + c;
                const __m512 whole = _mm512_cvtepi32_ps(_mm512_add_epi32(sums[t], others[t]));
                const __m512 value = _mm512_fnmadd_ps(zero, _mm512_set1_ps(x.sum[here]), whole);
                part[t] = _mm512_fmadd_ps(value, _mm512_set1_ps(x.scale[here]), part[t]);
            }
        }
        const __m512 scale = scales16(m, place);
        for (int t = 0; t < T; t++) total[t] = _mm512_fmadd_ps(part[t], scale, total[t]);
    }
}

template <int T> VNNI INLINE void words16(const Matrix &m, const Rounded &x, int block, int from, __m512 *total) {
    const uint8_t *at = m.codes + block * line_bytes(m);
    const __m512i high = _mm512_set1_epi32((int)0xffff0000);
    __m512 others[T];
    for (int t = 0; t < T; t++) total[t] = others[t] = _mm512_setzero_ps();
    for (int k = 0; k < m.in; k += 2, at += 64) {
        const __m512i line = _mm512_loadu_si512(at);
        _mm_prefetch((const char *)at + 2048, _MM_HINT_T0);
        const __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(line, 16));
        const __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(line, high));
        for (int t = 0; t < T; t++) {
            const float *in = x.x + (int64_t)(from + t) * m.in + k;
            total[t] = _mm512_fmadd_ps(even, _mm512_set1_ps(in[0]), total[t]);
            others[t] = _mm512_fmadd_ps(odd, _mm512_set1_ps(in[1]), others[t]);
        }
    }
    for (int t = 0; t < T; t++) total[t] = _mm512_add_ps(total[t], others[t]);
}

template <int T> VNNI void by_vnni(const Matrix &m, const Rounded &x, int block, int from, float *y, int64_t stride) {
    __m512 total[T];
    if (m.kind == CODES4) codes16<T, 4>(m, x, block, from, total);
    else if (m.kind == CODES8) codes16<T, 8>(m, x, block, from, total);
    else words16<T>(m, x, block, from, total);
    const int first = block * BLOCK, left = m.out - first < BLOCK ? m.out - first : BLOCK;
    const __mmask16 there = left == BLOCK ? 0xffff : (__mmask16)((1u << left) - 1);
    const __m512 bias = m.bias ? _mm512_maskz_loadu_ps(there, m.bias + first) : _mm512_setzero_ps();
    for (int t = 0; t < T; t++) _mm512_mask_storeu_ps(y + (int64_t)t * stride + first, there, _mm512_add_ps(total[t], bias));
}

using Block = void (*)(const Matrix &, const Rounded &, int, int, float *, int64_t);
constexpr Block WIDE[2][MOST] = {{by_avx2<1>, by_avx2<2>, by_avx2<3>, by_avx2<4>}, {by_vnni<1>, by_vnni<2>, by_vnni<3>, by_vnni<4>}};

#endif

}  // namespace

int widest_level() {
#ifdef X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) return 1;
#endif
    return 0;
}

CLONES static void round_row(const float *x, int in, int chunk, int8_t *code, float *scale, float *sum) {
    for (int c = 0; c < in / chunk; c++, x += chunk, code += chunk) {
        float most = 0.0f;
        for (int i = 0; i < chunk; i++) most = std::fmax(most, std::fabs(x[i]));
        const float by = most > 0.0f ? 127.0f / most : 0.0f;
        int32_t total = 0;
        for (int i = 0; i < chunk; i++) {
            const int32_t whole = (int32_t)(x[i] * by + 12582912.0f - 12582912.0f);
            code[i] = (int8_t)whole;
            total += whole;
        }
        scale[c] = most / 127.0f, sum[c] = (float)total;
    }
}

void round_inputs(const float *x, int rows, int in, int chunk, int8_t *code, float *scale, float *sum) {
    for (int row = 0; row < rows; row++)
        round_row(x + (int64_t)row * in, in, chunk, code + (int64_t)row * in, scale + (int64_t)row * (in / chunk), sum + (int64_t)row * (in / chunk));
}

void multiply(const Matrix &m, const Rounded &x, int first, int last, int level, float *y, int64_t stride) {
    for (int block = first; block < last; block++)
        for (int from = 0; from < x.rows; from += MOST) {
            const int rows = x.rows - from < MOST ? x.rows - from : MOST;
            float *to = y + (int64_t)from * stride;
#ifdef X86
            if (level > 0) {
                WIDE[level - 1][rows - 1](m, x, block, from, to, stride);
                continue;
            }
#endif
            plain(m, x, block, from, rows, to, stride);
        }
}

void read_row(const Matrix &m, int row, float factor, float *y) {
    const int block = row / BLOCK, r = row % BLOCK;
    const uint8_t *lines = m.codes + block * line_bytes(m);
    if (m.kind == WORDS16) {
        for (int i = 0; i < m.in; i++) y[i] = factor * wide(((const uint16_t *)lines)[(i / 2) * 32 + 2 * r + i % 2]);
        return;
    }
    const int groups = m.in / m.group;
    for (int g = 0; g < groups; g++) {
        const int64_t at = ((int64_t)block * groups + g) * BLOCK + r;
        const float zero = m.zero ? m.zero[at] : 1 << (m.kind - 1), scale = factor * scale_at(m, at);
        for (int i = g * m.group; i < (g + 1) * m.group; i++) y[i] = scale * ((float)code_at(m, lines, r, i) - zero);
    }
}
