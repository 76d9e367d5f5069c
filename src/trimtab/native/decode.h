// What a decoder is to decode.cpp: plain structures that runtime/plan/layout.py fills, pointers into tensors that
// Python holds.

#pragma once

#include "product.h"

struct Norm {
    const float *weight, *bias;
    int32_t kind;  // 0: none, 1: by the root of the mean square, 2: by mean and variance
    float eps;
};

struct Thin {  // up down x, which is added to a product; ranks that `down` has too few rows for are zeros of `up`
    Matrix down, up;
};

struct Layer {
    Norm before_attention, of_query, of_key, after_attention, before_mlp, after_mlp;
    Matrix query, key, value, out, gate, up, down;  // without codes: none
    const float *cos, *sin;                         // (positions, turned / 2)
    int32_t window, activation;                     // 0: all positions are seen
    float scaling, cap;                             // of scores; 0: no cap
    Thin thin[7];                                   // beside the seven matrices; without codes: none
};

struct Decoder {
    const Layer *layers;
    Matrix table, head;
    Norm last;
    int32_t count, width, heads, shared, size, turned, inner, chunk, ends, positions, level;
    float factor, cap;  // of the embedding; of the logits, 0: none
};

struct Slots {  // one sequence in one layer
    uint16_t *key, *value;  // (shared, room, size) in bfloat16, keys turned
    int32_t *position;      // (room), ascending
    float *bias;            // (room), added to the scores; null: none
    int32_t count, room;
};

struct Step {
    const int32_t *token;  // (rows), or null and
    const float *x;        // (rows, width) as they enter layer `first`
    float *left;           // (rows, width) as they leave layer `last` - 1; null: not asked for
    const int32_t *position, *sequence;
    const uint8_t *wanted;  // (rows): whose logits
    Slots *slots;           // (sequences, layers)
    float *logits;          // (wanted rows, words); null: the best word alone
    int32_t *best;          // (wanted rows)
    int32_t rows, first, last, reserved;
};
