// y = x W^T + b of one matrix, and rows of one: what runs outside of a plan, on the same codes.
//
// Inputs of bfloat16 go by tiles where there are some and many rows; all others as product.h says of a few rows.

#include <new>

#include "pool.h"
#include "rows.h"

CLONES void narrow_row(const float *x, int n, uint16_t *y) {
    for (int i = 0; i < n; i++) narrow(x[i], y + i);
}

CLONES void widen_row(const uint16_t *x, int n, float *y) {
    for (int i = 0; i < n; i++) y[i] = wide(x[i]);
}

namespace {

struct Call {
    const Matrix &m;
    const void *x;
    void *y;
    int stored;
    int64_t rows;
    Pool &pool;
    Inputs inputs;
    std::vector<float> made{};
    Lines<uint8_t> room{};

    size_t room_each() const { return inputs.tiles ? room_for(m.in, many()) : 0; }
    int many() const { return rows < MANY ? (int)rows : MANY; }

    void make_room(int members) {
        inputs.make_room(many(), stored != FLOAT32);
        room.resize(members * room_each());
        made.resize((size_t)members * many() * SOME * BLOCK);
    }

    void work(int rank) {
        const int members = pool.members();
        float *here = made.data() + (size_t)rank * many() * SOME * BLOCK;
        for (int64_t base = 0; base < rows; base += MANY) {
            const int count = (int)(rows - base < MANY ? rows - base : MANY);
            const Part mine = part_of(count, rank, members);
            for (int64_t row = mine.first; row < mine.last; row++) inputs.prepare((int)row, x, stored, base + row);
            pool.meet();
            const float *from = stored == FLOAT32 ? (const float *)x + base * m.in : inputs.floats.data();
            multiply_some(m, inputs.rounded(from, count), inputs.level, part_of(blocks_of(m), rank, members),
                          room.data() + rank * room_each(), here, [&](int row, int first, int wide, const float *sums) {
                              write_row(sums, wide, y, stored, (base + row) * m.out + first);
                          });
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
        Call call{*m, x, y, stored, rows, pool, {m->in, chunk, level, m->kind, by_tiles(*m, rows, stored, level)}};
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
