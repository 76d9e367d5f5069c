// Attention in which every row sees every entry, as towers have it, in bfloat16 by the tiles of attention.h.

#include <cstring>
#include <new>
#include <vector>

#include "attention.h"
#include "pool.h"
#include "product.h"

namespace {

struct Room {
    Lines<uint16_t> key, value;
    Lines<float> query, seen, score;
};

CLONES void widen(const uint16_t *x, int n, float *y) {
    for (int i = 0; i < n; i++) y[i] = wide(x[i]);
}

CLONES void narrowed(const float *x, int n, uint16_t *y) {
    for (int i = 0; i < n; i++) narrow(x[i], y + i);
}

class Call {
  public:
    Call(const Whole &given, int threads) : g(given), across((g.entries + KEYS - 1) / KEYS * KEYS), rooms(threads) {
        for (Room &one : rooms) {
            one.key.resize((size_t)across * g.size), one.value.resize(one.key.size());
            one.query.resize((size_t)BLOCK * g.size), one.seen.resize(one.query.size());
            one.score.resize(room_of_tiles(across, g.size));
        }
    }

    // Where there are few heads each is divided into parts of its rows, which gather its entries once more.
    void work(int rank, int members) {
        const int heads = g.batch * g.shared, blocks = (g.rows + BLOCK - 1) / BLOCK, wanted = (EACH * members + heads - 1) / heads;
        const int parts = members == 1 ? 1 : wanted < blocks ? wanted : blocks;
        for (int at = rank; at < heads * parts; at += members) {
            const Part mine = part_of(blocks, at % parts, parts);
            some(rooms[rank], at / parts / g.shared, at / parts % g.shared, (int)mine.first * BLOCK, (int)mine.last * BLOCK);
        }
    }

  private:
    static constexpr int EACH = 2;  // parts for a thread, at least

    void some(Room &room, int batch, int shared, int first, int last) {
        const int each = g.heads / g.shared;
        gather(room, batch, shared);
        for (int head = shared * each; head < (shared + 1) * each; head++)
            for (int row = first; row < last; row += BLOCK) block(room, batch, head, row);
    }

    // Keys and values of a head.
    void gather(Room &room, int batch, int head) {
        const uint16_t *key = g.key + batch * g.of_key[0] + head * g.of_key[1];
        const uint16_t *value = g.value + batch * g.of_value[0] + head * g.of_value[1];
        for (int dim = 0; dim < g.size; dim += KEYS) {
            tile_keys(key, g.of_key[2], g.size, dim, 0, g.entries, across, room.key.data());
            tile_values(value, g.of_value[2], dim, 0, g.entries, across, room.value.data());
        }
    }

    void block(Room &room, int batch, int head, int row) {
        const int rows = g.rows - row < BLOCK ? g.rows - row : BLOCK;
        const uint16_t *query = g.query + batch * g.of_query[0] + head * g.of_query[1];
        uint16_t *y = g.y + batch * g.of_y[0] + head * g.of_y[1];
        for (int t = 0; t < rows; t++) widen(query + (row + t) * g.of_query[2], g.size, room.query.data() + t * g.size);
        Seen of{room.query.data(), room.key.data(), room.value.data(), nullptr, g.size, across, {}, {}, rows, g.size, 0,
                g.scaling, 0.0f};
        for (int t = 0; t < rows; t++) of.last[t] = g.entries;
        attend_tiles(of, g.level >= BY_AMX, room.score.data(), room.seen.data(), g.size);
        for (int t = 0; t < rows; t++) narrowed(room.seen.data() + t * g.size, g.size, y + (row + t) * g.of_y[2]);
    }

    const Whole g;
    const int across;
    std::vector<Room> rooms;
};

}  // namespace

// softmax(scaling q K^T) V by at most `wanted` threads. 0 when done, 1 without memory, 2 where there are no tiles for it: a
// level below TILED, or heads whose size 32 does not divide.
extern "C" int trimtab_attend(const Whole *given, int wanted) {
    if (given->batch < 1 || given->rows < 1 || given->entries < 1) return 0;
    if (given->level < TILED || given->size % KEYS || given->shared < 1 || given->heads % given->shared) return 2;
    try {
        Call call(*given, wanted < 1 ? 1 : wanted);
        Pool &pool = threads();
        struct Work {
            Call &call;
            Pool &pool;
        } both{call, pool};
        pool.run(wanted, [](void *self, int rank) { ((Work *)self)->call.work(rank, ((Work *)self)->pool.members()); }, &both);
        return 0;
    } catch (const std::bad_alloc &) {
        return 1;
    }
}
