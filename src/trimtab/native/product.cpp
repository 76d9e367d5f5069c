// The products of product.h: what levels share, and the form in plain C++.

#include "expand.h"

#include <cmath>
#include <cstring>

extern "C" int trimtab_amx();
int trimtab_pairs();

namespace {

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

INLINE float number_at(const Matrix &m, const uint8_t *lines, int row, int input) {
    if (m.kind == FLOATS32) return ((const float *)lines)[input * BLOCK + row];
    return wide(((const uint16_t *)lines)[(input / 2) * 2 * BLOCK + 2 * row + input % 2]);
}

// Numbers of row `row` of a block whose lines are made piece by piece: used(input, number).
template <class Use> void some_of(const Matrix &m, int block, int row, Use used) {
    uint16_t lines[PIECE * BLOCK];
    Expander expander(m, block, false);
    for (int first = 0; first < m.in; first += PIECE) {
        const int count = first + PIECE < m.in ? PIECE : m.in - first;
        expander.next(count, lines);
        for (int i = 0; i < count; i++) used(first + i, wide(lines[i / 2 * 2 * BLOCK + 2 * row + i % 2]));
    }
}

INLINE float zero_at(const Matrix &m, int64_t at) { return m.levels ? 0.0f : m.zero ? m.zero[at] : 1 << (m.kind - 1); }

template <int T> void plain(const Matrix &m, const Rounded &x, int block, int from, bool whole, float *sums) {
    const uint8_t *lines = m.codes + block * block_bytes(m);
    const bool coded = m.kind <= CODES8;
    const int groups = coded ? m.in / m.group : 1;
    for (int t = 0; t < T; t++)
        for (int r = 0; r < BLOCK; r++) {
            const float *in = x.x + (int64_t)(from + t) * m.in;
            float total = 0.0f;
            if (m.kind == SOME16) some_of(m, block, r, [&](int i, float w) { total += w * in[i]; });
            else if (!coded)
                for (int i = 0; i < m.in; i++) total += number_at(m, lines, r, i) * in[i];
            for (int g = 0; coded && g < groups; g++) {
                const int64_t at = ((int64_t)block * groups + g) * BLOCK + r;
                const float zero = zero_at(m, at);
                float part = 0.0f;
                if (!whole)
                    for (int i = g * m.group; i < (g + 1) * m.group; i++) {
                        const int code = code_at(m, lines, r, i);
                        part += ((m.levels ? m.levels[code] : (float)code) - zero) * in[i];
                    }
                for (int c = g * (m.group / x.chunk); whole && c < (g + 1) * (m.group / x.chunk); c++) {
                    const int64_t here = (int64_t)(from + t) * (m.in / x.chunk) + c;
                    int32_t sum = 0;
                    for (int i = c * x.chunk; i < (c + 1) * x.chunk; i++)
                        sum += code_at(m, lines, r, i) * x.code[(int64_t)(from + t) * m.in + i];
                    part += x.scale[here] * ((float)sum - zero * x.sum[here]);
                }
                total += part * scale_at(m, at);
            }
            sums[t * BLOCK + r] = total;
        }
}

CLONES void round_row(const float *x, int in, int chunk, int8_t *code, int8_t *low, float *scale, float *sum, float *total) {
    const float most_of = low ? 32512.0f : 127.0f;
    for (int c = 0; c < in / chunk; c++, x += chunk, code = code ? code + chunk : nullptr, low = low ? low + chunk : nullptr) {
        float most = 0.0f, all = 0.0f;
        for (int i = 0; i < chunk; i++) all += x[i];
        total[c] = all;
        if (!code) continue;
        for (int i = 0; i < chunk; i++) {
            const float size = std::fabs(x[i]);
            most = size > most ? size : most;
        }
        const float by = most > 0.0f ? most_of / most : 0.0f;
        int32_t whole = 0;
        for (int i = 0; i < chunk; i++) {
            const int32_t near = (int32_t)((x[i] * by + 12582912.0f) - 12582912.0f);  // 1.5 * 2^23: to nearest
            const int32_t upper = low ? (near + 128) >> 8 : near;
            code[i] = (int8_t)upper;
            if (low) low[i] = (int8_t)(near - upper * 256);
            whole += near;
        }
        scale[c] = std::isfinite(all) && std::isfinite(most) ? most / most_of : NAN, sum[c] = (float)whole;
    }
}

}  // namespace

const Block PLAIN[MOST] = {plain<1>, plain<2>, plain<3>, plain<4>};

void round_inputs(const float *x, int in, int chunk, int8_t *code, int8_t *low, float *scale, float *sum, float *total) {
    round_row(x, in, chunk, code, low, scale, sum, total);
}

void multiply(const Matrix &m, const Rounded &x, int first, int last, int level, uint8_t *room, float *y, int64_t stride,
              bool whole) {
    if (tiled(m, x)) return multiply_tiles(m, x, first, last, level, room, y, stride);
    const Block *blocks = level >= 2 ? BY_AVX512 : level == 1 ? BY_AVX2 : PLAIN;
    whole = whole && m.levels == nullptr && m.kind <= CODES8;
    float sums[MOST * BLOCK];
    for (int block = first; block < last; block++) {
        const int left = m.out - block * BLOCK < BLOCK ? m.out - block * BLOCK : BLOCK;
        const float *bias = m.bias ? m.bias + block * BLOCK : nullptr;
        for (int from = 0; from < x.rows; from += MOST) {
            const int rows = x.rows - from < MOST ? x.rows - from : MOST;
            blocks[rows - 1](m, x, block, from, whole, sums);
            for (int t = 0; t < rows; t++) {
                float *to = y + (int64_t)(from + t) * stride + (block - first) * BLOCK;
                for (int r = 0; r < left; r++) to[r] = sums[t * BLOCK + r] + (bias ? bias[r] : 0.0f);
            }
        }
    }
}

void read_row(const Matrix &m, int row, float factor, float *y) {
    const int block = row / BLOCK, r = row % BLOCK;
    const uint8_t *lines = m.codes + block * block_bytes(m);
    if (m.kind == SOME16) {
        some_of(m, block, r, [&](int i, float w) { y[i] = factor * w; });
        return;
    }
    if (m.kind > CODES8) {
        for (int i = 0; i < m.in; i++) y[i] = factor * number_at(m, lines, r, i);
        return;
    }
    const int groups = m.in / m.group;
    for (int g = 0; g < groups; g++) {
        const int64_t at = ((int64_t)block * groups + g) * BLOCK + r;
        const float zero = zero_at(m, at), scale = factor * scale_at(m, at);
        for (int i = g * m.group; i < (g + 1) * m.group; i++) {
            const int code = code_at(m, lines, r, i);
            y[i] = scale * ((m.levels ? m.levels[code] : (float)code) - zero);
        }
    }
}

int widest_level() {
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
    const bool two = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    const bool four = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
    const bool pairs = four && trimtab_pairs();
    return two ? (four ? (pairs ? (trimtab_amx() ? BY_AMX : TILED) : HALVES) : 1) : 0;
#else
    return 0;
#endif
}
