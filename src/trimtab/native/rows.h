// Rows of inputs as product.h wants them, from float32 or bfloat16: what products outside of a plan share.

#pragma once

#include <cstring>
#include <vector>

#include "pool.h"
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

    // Row `row`, which is row `at` of x in dtype `stored`.
    void prepare(int row, const void *x, int stored, int64_t at) {
        if (stored == FLOAT32) round(row, (const float *)x + at * in);
        else take(row, (const uint16_t *)x + at * in);
    }

    // Row `row`, which comes in bfloat16; one in float32 is rounded where it lies (`round`).
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

    // Inputs [first, first + count) of row `row`, whole blocks but for the last: made here, where `take` is given them.
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

// Sums of blocks `mine` of m by all rows, SOME blocks at once while they are near: done(row, first output, how many, sums).
template <class Done>
void multiply_some(const Matrix &m, const Rounded &given, int level, Part mine, uint8_t *room, float *here, Done done) {
    for (int block = (int)mine.first; block < mine.last; block += SOME) {
        const int end = block + SOME < mine.last ? block + SOME : (int)mine.last;
        multiply(m, given, block, end, level, room, here, SOME * BLOCK, false);
        const int first = block * BLOCK, last = end * BLOCK < m.out ? end * BLOCK : m.out;
        for (int t = 0; t < given.rows; t++) done(t, first, last - first, here + (size_t)t * SOME * BLOCK);
    }
}

// `count` numbers of y from number `at` on, in dtype `stored`.
inline void write_row(const float *from, int count, void *y, int stored, int64_t at) {
    if (stored == FLOAT32) memcpy((float *)y + at, from, sizeof(float) * count);
    else narrow_row(from, count, (uint16_t *)y + at);
}
