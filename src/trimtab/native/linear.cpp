// y = x W^T + b of one matrix, and rows of one: what runs outside of a plan, on the same codes.
//
// Inputs of bfloat16 go by tiles where there are some and many rows; all others as product.h says of a few rows.

#include <cstring>
#include <new>
#include <vector>

#include "pool.h"
#include "product.h"

namespace {

constexpr int MANY = 512;           // rows at once
constexpr int SOME = 4;              // blocks at once, whose sums are still near when they are written
constexpr int64_t SMALL = 1 << 18;  // products for which another thread does not pay

CLONES void narrow_row(const float *x, int n, uint16_t *y) {
    for (int i = 0; i < n; i++) narrow(x[i], y + i);
}

CLONES void widen_row(const uint16_t *x, int n, float *y) {
    for (int i = 0; i < n; i++) y[i] = wide(x[i]);
}

struct Call {
    const Matrix &m;
    const void *x;
    void *y;
    int stored;
    int64_t rows;
    int chunk, level;
    bool tiles;
    Pool &pool;
    std::vector<float> floats{}, totals{}, scales{}, sums{}, made{};
    std::vector<int8_t> codes{}, lows{};
    Lines<uint16_t> words{};
    Lines<uint8_t> room{};

    size_t room_each() const { return tiles ? room_for(m.in, many()) : 0; }
    int many() const { return rows < MANY ? (int)rows : MANY; }

    void make_room(int members) {
        const size_t count = many(), all = count * m.in;
        if (tiles) words.resize(all + BLOCK * (size_t)m.in), room.resize(members * room_each());
        else {
            totals.resize(count * (m.in / chunk + 1));
            if (level >= HALVES) scales.resize(totals.size()), sums.resize(totals.size()), codes.resize(all), lows.resize(all);
            if (stored != FLOAT32) floats.resize(all);
        }
        made.resize(members * count * SOME * BLOCK);
    }

    const float *as_floats(int64_t base) const {
        return stored == FLOAT32 ? (const float *)x + base * m.in : floats.data();
    }

    void prepare(int64_t base, int64_t row) {  // row `base + row` of x
        const int64_t from = (base + row) * m.in, to = row * m.in;
        if (tiles) {
            uint16_t *tile = words.data() + tile_of((int)row, m.in);
            for (int k = 0; k < m.in; k += TILE, tile += NEXT_TILE) memcpy(tile, (const uint16_t *)x + from + k, sizeof(uint16_t) * TILE);
            return;
        }
        if (stored != FLOAT32) widen_row((const uint16_t *)x + from, m.in, floats.data() + to);
        if (m.kind > CODES8) return;
        const int64_t at = row * (m.in / chunk);
        const bool halves = level >= HALVES;
        round_inputs(as_floats(base) + to, m.in, chunk, halves ? codes.data() + to : nullptr, halves ? lows.data() + to : nullptr,
                     scales.data() + at, sums.data() + at, totals.data() + at);
    }

    void write(const float *from, int64_t base, int rows, int first, int last) {  // outputs [first, last)
        for (int t = 0; t < rows; t++, from += SOME * BLOCK) {
            const int64_t at = (base + t) * m.out + first;
            if (stored == FLOAT32) memcpy((float *)y + at, from, sizeof(float) * (last - first));
            else narrow_row(from, last - first, (uint16_t *)y + at);
        }
    }

    void work(int rank) {
        const int members = pool.members(), blocks = blocks_of(m);
        float *here = made.data() + (size_t)rank * many() * SOME * BLOCK;
        for (int64_t base = 0; base < rows; base += MANY) {
            const int count = (int)(rows - base < MANY ? rows - base : MANY);
            const Part mine = part_of(count, rank, members), outputs = part_of(blocks, rank, members);
            for (int64_t row = mine.first; row < mine.last; row++) prepare(base, row);
            pool.meet();
            const Rounded given{as_floats(base), codes.data(), lows.data(), scales.data(), sums.data(), totals.data(),
                                tiles ? words.data() : nullptr, count, m.in, chunk};
            for (int block = (int)outputs.first; block < outputs.last; block += SOME) {
                const int end = block + SOME < outputs.last ? block + SOME : (int)outputs.last;
                multiply(m, given, block, end, level, room.data() + rank * room_each(), here, SOME * BLOCK, false);
                write(here, base, count, block * BLOCK, end * BLOCK < m.out ? end * BLOCK : m.out);
            }
            pool.meet();
        }
    }
};

}  // namespace

// y (rows, out) of x (rows, in), both in dtype `stored`: float32 or bfloat16; `chunk` divides every group. 0 when done, 1
// without memory.
extern "C" int trimtab_product(const Matrix *m, const void *x, int stored, int64_t rows, int chunk, int level, int threads_,
                               void *y) {
    try {
        Pool &pool = threads();
        const bool tiles = level >= TILED && stored == BFLOAT16 && rows >= BLOCK && m->in % 32 == 0 && m->kind != FLOATS32;
        Call call{*m, x, y, stored, rows, chunk, level, tiles, pool};
        const int wanted = rows * m->in * m->out < SMALL ? 1 : threads_;
        call.make_room(wanted < 1 ? 1 : wanted);
        pool.run(wanted, [](void *self, int rank) { ((Call *)self)->work(rank); }, &call);
        return 0;
    } catch (const std::bad_alloc &) {
        return 1;
    }
}

// y (count, in) float32: rows of m by number.
extern "C" void trimtab_rows(const Matrix *m, const int64_t *number, int64_t count, float *y) {
    for (int64_t i = 0; i < count; i++) read_row(*m, (int)number[i], 1.0f, y + i * m->in);
}
