// Attention of one row by several heads that share keys and values: these are read and made floats once for all of them.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "curves.h"

typedef float Floats16 __attribute__((vector_size(64)));

INLINE Floats16 floats16(const float *x) {
    Floats16 made;
    memcpy(&made, x, sizeof made);
    return made;
}

INLINE Floats16 floats16(const uint16_t *x) {  // of bfloat16
    typedef uint16_t Halves __attribute__((vector_size(32)));
    typedef uint32_t Words __attribute__((vector_size(64)));
    Halves halves;
    memcpy(&halves, x, sizeof halves);
    return (Floats16)(__builtin_convertvector(halves, Words) << 16);
}

INLINE float sum_of(Floats16 x) {
    float all[16];
    memcpy(all, &x, sizeof all);
    for (int width = 8; width > 0; width /= 2)
        for (int i = 0; i < width; i++) all[i] += all[i + width];
    return all[0];
}

constexpr int SIDE_BY_SIDE = 64;  // numbers of a head whose sums stay in registers

// softmax(scaling q K^T) V over entries [first, last) of G heads; their queries and answers lie `n` numbers apart, a
// multiple of SIDE_BY_SIDE, their scores `room`.
template <int G>
INLINE void attend_group(const float *q, const uint16_t *key, const uint16_t *value, const float *bias, int first, int last,
                         int n, float scaling, float cap, float *score, int64_t room, float *y) {
    float most[G], total[G];
    for (int g = 0; g < G; g++) most[g] = -INFINITY, total[g] = 0.0f;
    for (int e = first; e < last; e++) {
        const uint16_t *row = key + (int64_t)e * n;
        Floats16 sums[G] = {};
        for (int i = 0; i < n; i += 16) {
            const Floats16 k = floats16(row + i);
            for (int g = 0; g < G; g++) sums[g] += floats16(q + g * n + i) * k;
        }
        for (int g = 0; g < G; g++) {
            float s = sum_of(sums[g]) * scaling;
            if (cap > 0.0f) s = cap * std::tanh(s / cap);
            if (bias) s += bias[e];
            score[g * room + e] = s;
            most[g] = s > most[g] ? s : most[g];
        }
    }
    for (int g = 0; g < G; g++) {
        float *here = score + g * room;
        for (int e = first; e < last; e++) {
            const float less = here[e] - most[g];
            here[e] = less < -87.0f ? 0.0f : exponential(less);
        }
        for (int e = first; e < last; e++) total[g] += here[e];
    }
    for (int i = 0; i < n; i += SIDE_BY_SIDE) {
        Floats16 sums[G][SIDE_BY_SIDE / 16] = {};
        for (int e = first; e < last; e++) {
            const uint16_t *row = value + (int64_t)e * n + i;
            for (int j = 0; j < SIDE_BY_SIDE / 16; j++) {
                const Floats16 v = floats16(row + 16 * j);
                for (int g = 0; g < G; g++) sums[g][j] += score[g * room + e] * v;
            }
        }
        for (int g = 0; g < G; g++)
            for (int j = 0; j < SIDE_BY_SIDE / 16; j++) {
                const Floats16 made = sums[g][j] / total[g];
                memcpy(y + g * n + i + 16 * j, &made, sizeof made);
            }
    }
}
