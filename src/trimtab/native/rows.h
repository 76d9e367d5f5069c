// Rows of inputs as product.h wants them, from float32 or bfloat16: what products outside of a plan share.

#pragma once

#include <cstring>
#include <vector>

#include "product.h"

constexpr int MANY = 512;           // rows at once
constexpr int SOME = 4;              // blocks at once, whose sums are still near when they are written
constexpr int64_t SMALL = 1 << 18;  // products for which another thread does not pay

void narrow_row(const float *x, int n, uint16_t *y);
void widen_row(const uint16_t *x, int n, float *y);

struct Inputs {
    int in, chunk, level, kind;
    bool tiles;
    std::vector<float> floats{}, totals{}, scales{}, sums{};
    std::vector<int8_t> codes{}, lows{};
    Lines<uint16_t> words{};

    void make_room(int count, bool widened) {  // `widened`: rows do not come as float32
        const size_t all = (size_t)count * in;
        if (tiles) return words.resize(all + BLOCK * (size_t)in);
        totals.resize((size_t)count * (in / chunk + 1));
        if (level >= HALVES) scales.resize(totals.size()), sums.resize(totals.size()), codes.resize(all), lows.resize(all);
        if (widened) floats.resize(all);
    }

    // Row `row` as it is in bfloat16, or all of it in float32 at `x`.
    void take(int row, const uint16_t *x) {
        if (tiles) {
            uint16_t *tile = words.data() + tile_of(row, in);
            for (int k = 0; k < in; k += TILE, tile += NEXT_TILE) memcpy(tile, x + k, sizeof(uint16_t) * TILE);
            return;
        }
        float *to = floats.data() + (int64_t)row * in;
        widen_row(x, in, to);
        round(row, to);
    }

    void round(int row, const float *x) {
        if (kind > CODES8) return;
        const int64_t at = (int64_t)row * (in / chunk), to = (int64_t)row * in;
        const bool halves = level >= HALVES;
        round_inputs(x, in, chunk, halves ? codes.data() + to : nullptr, halves ? lows.data() + to : nullptr,
                     scales.data() + at, sums.data() + at, totals.data() + at);
    }

    // Inputs [first, first + count) of row `row`, whole blocks but for the last, which `take` did not give.
    void put(int row, int first, int count, const float *x) {
        if (!tiles) {
            memcpy(floats.data() + (int64_t)row * in + first, x, sizeof(float) * count);
            return;
        }
        uint16_t *tile = words.data() + tile_of(row, in);
        for (int k = 0; k < count; k += BLOCK)
            narrow_row(x + k, BLOCK, tile + (first + k) / TILE * NEXT_TILE + (first + k) % TILE);
    }

    Rounded rounded(const float *from, int rows) const {
        return {from, codes.data(), lows.data(), scales.data(), sums.data(), totals.data(), tiles ? words.data() : nullptr,
                rows, in, chunk};
    }
};

// Whether `rows` inputs of m are multiplied tile by tile.
inline bool by_tiles(const Matrix &m, int64_t rows, int stored, int level) {
    return level >= TILED && stored == BFLOAT16 && rows >= BLOCK && m.in % TILE == 0 && m.kind != FLOATS32;
}
