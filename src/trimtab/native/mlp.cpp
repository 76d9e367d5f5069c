// y = D act(U x + b) + c of a plain MLP in one call: what lies between its matrices is as long as the rows that are worked on
// at once, and never written as a whole.

#include <new>

#include "curves.h"
#include "pool.h"
#include "rows.h"

namespace {

template <int KIND> INLINE void each(float *x, int n) {
    for (int i = 0; i < n; i++) x[i] = activated(x[i], KIND);
}

CLONES void silu(float *x, int n) { each<SILU>(x, n); }
CLONES void gelu_tanh(float *x, int n) { each<GELU_TANH>(x, n); }
CLONES void gelu_quick(float *x, int n) { each<GELU_QUICK>(x, n); }
CLONES void gelu_erf(float *x, int n) { each<GELU_ERF>(x, n); }

using Curve = void (*)(float *, int);
constexpr Curve CURVES[] = {silu, gelu_tanh, gelu_quick, gelu_erf};

struct Call {
    const Matrix &up, &down;
    const void *x;
    void *y;
    int stored;
    int64_t rows;
    Curve curve;
    Pool &pool;
    Inputs inputs, hidden;
    std::vector<float> made{};
    Lines<uint8_t> room{};

    int many() const { return rows < MANY ? (int)rows : MANY; }

    size_t room_each() const {
        const size_t one = inputs.tiles ? room_for(up.in, many()) : 0, other = hidden.tiles ? room_for(down.in, many()) : 0;
        return one > other ? one : other;
    }

    void make_room(int members) {
        inputs.make_room(many(), stored != FLOAT32), hidden.make_room(many(), true);
        room.resize(members * room_each());
        made.resize((size_t)members * many() * SOME * BLOCK);
    }

    template <class Done> void multiply_all(const Matrix &m, const Rounded &given, int level, int rank, Done done) {
        multiply_some(m, given, level, part_of(blocks_of(m), rank, pool.members()), room.data() + rank * room_each(),
                      made.data() + (size_t)rank * many() * SOME * BLOCK, done);
    }

    void work(int rank) {
        for (int64_t base = 0; base < rows; base += MANY) {
            const int count = (int)(rows - base < MANY ? rows - base : MANY);
            const Part mine = part_of(count, rank, pool.members());
            const float *from = stored == FLOAT32 ? (const float *)x + base * up.in : inputs.floats.data();
            for (int64_t row = mine.first; row < mine.last; row++) inputs.prepare((int)row, x, stored, base + row);
            pool.meet();
            multiply_all(up, inputs.rounded(from, count), inputs.level, rank, [&](int row, int first, int wide, float *sums) {
                curve(sums, wide);
                hidden.put(row, first, wide, sums);
            });
            pool.meet();
            if (!hidden.tiles) {
                for (int64_t row = mine.first; row < mine.last; row++) hidden.round((int)row, hidden.floats.data() + row * down.in);
                pool.meet();
            }
            multiply_all(down, hidden.rounded(hidden.floats.data(), count), hidden.level, rank,
                         [&](int row, int first, int wide, const float *sums) {
                             write_row(sums, wide, y, stored, (base + row) * down.out + first);
                         });
            pool.meet();
        }
    }
};

}  // namespace

// y (rows, down.out) of x (rows, up.in), both in dtype `stored`: float32 or bfloat16; chunks divide every group of their
// matrix. 0 when done, 1 without memory, 2 for an activation or sizes that are none.
extern "C" int trimtab_mlp(const Matrix *up, const Matrix *down, int activation, const void *x, int stored, int64_t rows,
                           int chunk, int then, int level, int threads_, void *y) {
    if (activation < 0 || activation > GELU_ERF || up->out != down->in) return 2;
    try {
        Pool &pool = threads();
        Call call{*up, *down, x, y, stored, rows, CURVES[activation], pool,
                  {up->in, chunk, level, up->kind, by_tiles(*up, rows, stored, level)},
                  {down->in, then, level, down->kind, by_tiles(*down, rows, stored, level)}};
        const int wanted = rows * up->in * up->out < SMALL ? 1 : threads_;
        call.make_room(wanted < 1 ? 1 : wanted);
        pool.run(wanted, [](void *self, int rank) { ((Call *)self)->work(rank); }, &call);
        return 0;
    } catch (const std::bad_alloc &) {
        return 1;
    }
}
