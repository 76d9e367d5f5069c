// A decoder from tokens to logits in one call, for a few rows or a prompt: no Python between its layers.

#include "decode.h"

#include <cmath>
#include <cstring>
#include <new>
#include <vector>

#include "attention.h"
#include "curves.h"
#include "heads.h"
#include "pool.h"

namespace {

constexpr int LANES = 64;

INLINE void norm_row(const Norm &norm, const float *x, int n, float *y) {
    if (norm.kind == 0) {
        if (x != y) memcpy(y, x, sizeof(float) * n);
        return;
    }
    float sums[LANES] = {}, squares[LANES] = {}, sum = 0.0f, square = 0.0f;
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) sums[j] += x[i + j], squares[j] += x[i + j] * x[i + j];
    for (int j = 0; j < LANES; j++) sum += sums[j], square += squares[j];
    for (; i < n; i++) sum += x[i], square += x[i] * x[i];
    const float mean = norm.kind == 2 ? sum / n : 0.0f, scale = 1.0f / std::sqrt(square / n - mean * mean + norm.eps);
    for (int j = 0; j < n; j++) y[j] = (x[j] - mean) * scale * norm.weight[j];
    if (norm.bias)
        for (int j = 0; j < n; j++) y[j] += norm.bias[j];
}

INLINE void turn(float *x, const float *cos, const float *sin, int half) {  // (a, b) -> (a cos - b sin, b cos + a sin)
    for (int i = 0; i < half; i++) {
        const float a = x[i], b = x[i + half];
        x[i] = a * cos[i] - b * sin[i];
        x[i + half] = b * cos[i] + a * sin[i];
    }
}

INLINE float dot(const float *x, const uint16_t *y, int n) {
    float sums[LANES] = {}, sum = 0.0f;
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) sums[j] += x[i + j] * wide(y[i + j]);
    for (int j = 0; j < LANES; j++) sum += sums[j];
    for (; i < n; i++) sum += x[i] * wide(y[i]);
    return sum;
}

// softmax(scaling q K^T) V over entries [first, last) of one head.
INLINE void attend(const float *q, const uint16_t *key, const uint16_t *value, const float *bias, int first, int last, int n,
                   float scaling, float cap, float *score, float *y) {
    float most = -INFINITY;
    for (int e = first; e < last; e++) {
        float s = dot(q, key + (int64_t)e * n, n) * scaling;
        if (cap > 0.0f) s = cap * std::tanh(s / cap);
        if (bias) s += bias[e];
        score[e] = s;
        most = s > most ? s : most;
    }
    float total = 0.0f;
    for (int e = first; e < last; e++) {
        const float less = score[e] - most;
        score[e] = less < -87.0f ? 0.0f : exponential(less);
    }
    for (int e = first; e < last; e++) total += score[e];
    memset(y, 0, sizeof(float) * n);
    for (int e = first; e < last; e++) {
        const float p = score[e];
        const uint16_t *row = value + (int64_t)e * n;
        for (int i = 0; i < n; i++) y[i] += p * wide(row[i]);
    }
    for (int i = 0; i < n; i++) y[i] /= total;
}

INLINE void narrow_row(const float *x, int n, uint16_t *y) {
    for (int i = 0; i < n; i++) narrow(x[i], y + i);
}

INLINE void tile_row(const float *x, int n, uint16_t *y) {
    for (int k = 0; k < n; k += TILE, y += NEXT_TILE)
        for (int i = 0; i < TILE; i++) narrow(x[k + i], y + i);
}

INLINE void gate_row(float *gate, const float *up, int n, int activation) {
    for (int i = 0; i < n; i++) gate[i] = activated(gate[i], activation) * up[i];
}

// The same for each level of vectors.
struct Loops {
    void (*norm)(const Norm &, const float *, int, float *);
    void (*turn)(float *, const float *, const float *, int);
    void (*attend)(const float *, const uint16_t *, const uint16_t *, const float *, int, int, int, float, float, float *, float *);
    void (*heads)(int, const float *, const uint16_t *, const uint16_t *, const float *, int, int, int, float, float, float *, int64_t, float *);
    void (*gate)(float *, const float *, int, int);
    void (*narrow)(const float *, int, uint16_t *), (*tile)(const float *, int, uint16_t *);
};

#define LOOPS(NAME, TARGET)                                                                                              \
    TARGET void norm_##NAME(const Norm &norm, const float *x, int n, float *y) { norm_row(norm, x, n, y); }              \
    TARGET void turn_##NAME(float *x, const float *cos, const float *sin, int half) { turn(x, cos, sin, half); }         \
    TARGET void attend_##NAME(const float *q, const uint16_t *key, const uint16_t *value, const float *bias, int first,  \
                              int last, int n, float scaling, float cap, float *score, float *y) {                       \
        attend(q, key, value, bias, first, last, n, scaling, cap, score, y);                                             \
    }                                                                                                                    \
    TARGET void heads_##NAME(int count, const float *q, const uint16_t *key, const uint16_t *value, const float *bias,   \
                             int first, int last, int n, float scaling, float cap, float *score, int64_t room,           \
                             float *y) {                                                                                 \
        if (count == 8) attend_group<8>(q, key, value, bias, first, last, n, scaling, cap, score, room, y);              \
        if (count == 4) attend_group<4>(q, key, value, bias, first, last, n, scaling, cap, score, room, y);              \
        if (count == 3) attend_group<3>(q, key, value, bias, first, last, n, scaling, cap, score, room, y);              \
        if (count == 2) attend_group<2>(q, key, value, bias, first, last, n, scaling, cap, score, room, y);              \
    }                                                                                                                    \
    TARGET void gate_##NAME(float *gate, const float *up, int n, int activation) { gate_row(gate, up, n, activation); }  \
    TARGET void narrow_##NAME(const float *x, int n, uint16_t *y) { narrow_row(x, n, y); }                               \
    TARGET void tile_##NAME(const float *x, int n, uint16_t *y) { tile_row(x, n, y); }                                   \
    constexpr Loops LOOPS_##NAME = {norm_##NAME, turn_##NAME, attend_##NAME, heads_##NAME, gate_##NAME, narrow_##NAME, tile_##NAME};

LOOPS(plain, )
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
LOOPS(avx2, __attribute__((target("arch=x86-64-v3"))))
LOOPS(avx512, __attribute__((target("arch=x86-64-v4"))))
constexpr Loops LEVELS[] = {LOOPS_plain, LOOPS_avx2, LOOPS_avx512, LOOPS_avx512, LOOPS_avx512};
#else
constexpr Loops LEVELS[] = {LOOPS_plain, LOOPS_plain, LOOPS_plain, LOOPS_plain, LOOPS_plain};
#endif

struct Product {
    const Matrix *matrix;
    float *y;
    int64_t stride;
    const Thin *thin;
};

class State {  // threads and room for one caller's steps
  public:
    State(const Decoder &decoder, int threads, int rows) : d(decoder), count(threads < 1 ? 1 : threads), loops(LEVELS[decoder.level]), most(rows) {
        const int wide = d.heads * d.size, narrow = d.shared * d.size;
        const int longest = d.inner > wide ? (d.inner > d.width ? d.inner : d.width) : (wide > d.width ? wide : d.width);
        for (int index = 0; index < d.count; index++)
            for (const Thin &one : d.layers[index].thin)
                if (one.down.codes && one.down.out > widest_thin) widest_thin = one.down.out;
        x.resize((size_t)rows * d.width), normed.resize((size_t)rows * d.width), query.resize((size_t)rows * wide);
        key.resize((size_t)rows * narrow), value.resize((size_t)rows * narrow), seen.resize((size_t)rows * wide);
        gate.resize((size_t)rows * d.inner), up.resize((size_t)rows * d.inner), made.resize((size_t)rows * d.width);
        code.resize((size_t)rows * longest), low.resize(d.level >= HALVES ? code.size() : 0);
        scale.resize((size_t)rows * longest / (d.chunk < d.ends ? d.chunk : d.ends)), sum.resize(scale.size()), total.resize(scale.size());
        if (d.level >= TILED && rows >= BLOCK && d.width % 32 == 0 && wide % 32 == 0 && d.inner % 32 == 0) {
            words.resize((size_t)(rows + BLOCK) * longest);
            room.resize(count);
            for (Lines<uint8_t> &one : room) one.resize(room_for(longest > widest_thin ? longest : widest_thin, rows));
        }
        for (int i = 0; widest_thin && i < 3; i++) {
            thin[i].resize((size_t)rows * widest_thin);
            if (!words.empty()) thin_words[i].resize((size_t)(rows + BLOCK) * widest_thin);
        }
        added.resize(count);
        for (std::vector<float> &one : added) one.resize(widest_thin ? (size_t)rows * SOME * BLOCK : 0);
        shown.resize(count);
        place.resize(rows), score.resize(count), best.resize((size_t)count * rows);
    }

    void run(const Step &given) {
        step = &given;
        choose(given.rows, d.chunk);
        if (!given.logits)
            for (std::vector<float> &one : shown)
                if (one.size() < (size_t)given.rows * SOME * BLOCK) one.resize((size_t)given.rows * SOME * BLOCK);
        int longest = 0;
        std::vector<int> added;
        for (int row = 0; row < given.rows; row++) {
            const size_t sequence = given.sequence[row];
            if (sequence >= added.size()) added.resize(sequence + 1, 0);
            place[row] = added[sequence]++;
        }
        for (size_t s = 0; s < added.size(); s++)
            for (int layer = given.first; layer < given.last; layer++) {
                const int all = given.slots[s * d.count + layer].count + added[s];
                longest = all > longest ? all : longest;
            }
        room_of_scores = longest;
        for (std::vector<float> &one : score)
            if (one.size() < (size_t)longest * GROUPS[0]) one.resize((size_t)(longest + longest / 2) * GROUPS[0]);
        attends_by_tiles(added);
        pool = &threads();
        pool->run(count, [](void *self, int rank) { ((State *)self)->work(rank); }, this);
        for (size_t s = 0; s < added.size(); s++)
            for (int layer = given.first; layer < given.last; layer++) given.slots[s * d.count + layer].count += added[s];
    }

    const Decoder d;
    const int count;  // of threads, at most

  private:
    static constexpr int SOME = 16;  // blocks of the head at once, whose logits are still near when they are looked at

    void choose(int rows, int inputs) {  // how many rows are multiplied, and how many inputs are rounded as one
        chunk = inputs;
        by_tiles = !words.empty() && rows >= BLOCK;
        few = rows <= MOST;
    }

    struct Segment {  // a sequence's rows in this step; `at`: where its tiles lie in `keys` and `turned`
        int row, rows, sequence;
        int64_t at;
    };

    Part part(int64_t total, int rank) const { return part_of(total, rank, pool->members()); }

    void round_row(const float *from, int row, int in) {
        if (by_tiles) {
            loops.tile(from, in, words.data() + tile_of(row, in));
            return;
        }
        const int64_t at = (int64_t)row * (in / chunk);
        const bool halves = d.level >= HALVES, coded = halves || !few;
        int8_t *upper = coded ? code.data() + (int64_t)row * in : nullptr, *lower = halves ? low.data() + (int64_t)row * in : nullptr;
        round_inputs(from, in, chunk, upper, lower, scale.data() + at, sum.data() + at, total.data() + at);
    }

    Rounded inputs(const float *from, int rows, int in) const {
        const uint16_t *by = by_tiles ? words.data() : nullptr;
        return {from, code.data(), low.data(), scale.data(), sum.data(), total.data(), by, rows, in, chunk};
    }

    uint8_t *room_of(int rank) { return by_tiles ? room[rank].data() : nullptr; }

    // Every product of the same rounded rows: their blocks are divided among the threads.
    template <int N> void products(const Product (&all)[N], const float *from, int in, int rank) {
        const Rounded rounded = inputs(from, step->rows, in);
        Product each[2 * N] = {};
        bool thins = false;
        for (int i = 0; i < N; i++) {
            each[i] = all[i];
            each[N + i] = {&all[i].thin->down, thin[i].data(), all[i].thin->down.out, nullptr};
            thins = thins || all[i].thin->down.codes;
        }
        int blocks = 0;
        for (const Product &one : each) blocks += one.matrix->codes ? blocks_of(*one.matrix) : 0;
        const Part mine = part(blocks, rank);
        int begin = 0;
        for (const Product &one : each) {
            if (!one.matrix->codes) continue;
            const int count = blocks_of(*one.matrix), first = mine.first > begin ? mine.first - begin : 0;
            const int last = mine.last - begin < count ? mine.last - begin : count;
            if (first < last) multiply(*one.matrix, rounded, first, last, d.level, room_of(rank), one.y + first * BLOCK, one.stride, !few);
            begin += count;
        }
        if (thins) add_thin(all, rank);
    }

    // What stands beside the products, whose thin sides are there by now.
    template <int N> void add_thin(const Product (&all)[N], int rank) {
        pool->meet();
        for (int i = 0; by_tiles && i < N; i++) {
            const int in = all[i].thin->down.out;
            const Part mine = part(all[i].thin->down.codes ? step->rows : 0, rank);
            for (int row = mine.first; row < mine.last; row++)
                loops.tile(thin[i].data() + (int64_t)row * in, in, thin_words[i].data() + tile_of(row, in));
        }
        pool->meet();
        for (int i = 0; i < N; i++) {
            const Matrix &up = all[i].thin->up;
            const Part mine = part(up.codes ? blocks_of(up) : 0, rank);
            const Rounded given{thin[i].data(), nullptr, nullptr, nullptr, nullptr, nullptr,
                                by_tiles ? thin_words[i].data() : nullptr, step->rows, up.in, up.in};
            float *here = added[rank].data();
            for (int block = mine.first; block < mine.last; block += SOME) {
                const int end = block + SOME < mine.last ? block + SOME : mine.last;
                multiply(up, given, block, end, d.level, room_of(rank), here, SOME * BLOCK, false);
                const int first = block * BLOCK, last = end * BLOCK < up.out ? end * BLOCK : up.out;
                for (int row = 0; row < step->rows; row++) {
                    float *to = all[i].y + row * all[i].stride + first, *from = here + row * SOME * BLOCK;
                    for (int j = 0; j < last - first; j++) to[j] += from[j];
                }
            }
        }
    }

    void begin_rows(int rank) {
        const Part mine = part(step->rows, rank);
        for (int row = mine.first; row < mine.last; row++) {
            float *to = x.data() + (int64_t)row * d.width;
            if (step->token)
                read_row(d.table, step->token[row], d.factor, to);
            else
                memcpy(to, step->x + (int64_t)row * d.width, sizeof(float) * d.width);
        }
    }

    void norm_and_round(const Norm &norm, int rank) {
        const Part mine = part(step->rows, rank);
        for (int row = mine.first; row < mine.last; row++) {
            float *to = normed.data() + (int64_t)row * d.width;
            loops.norm(norm, x.data() + (int64_t)row * d.width, d.width, to);
            round_row(to, row, d.width);
        }
    }

    void add_back(const Norm &norm, int rank) {
        const Part mine = part(step->rows, rank);
        for (int row = mine.first; row < mine.last; row++) {
            float *from = made.data() + (int64_t)row * d.width, *to = x.data() + (int64_t)row * d.width;
            loops.norm(norm, from, d.width, from);
            for (int i = 0; i < d.width; i++) to[i] += from[i];
        }
    }

    void place_heads(const Layer &layer, int index, int rank) {
        const int each = d.heads + 2 * d.shared;
        const Part mine = part((int64_t)step->rows * each, rank);
        for (int at = mine.first; at < mine.last; at++) {
            const int row = at / each, head = at % each;
            const int64_t angle = (int64_t)step->position[row] * (d.turned / 2);
            if (head < d.heads) {
                float *q = query.data() + ((int64_t)row * d.heads + head) * d.size;
                loops.norm(layer.of_query, q, d.size, q);
                if (layer.cos) loops.turn(q, layer.cos + angle, layer.sin + angle, d.turned / 2);
                continue;
            }
            Slots &slots = step->slots[(int64_t)step->sequence[row] * d.count + index];
            const bool is_key = head < d.heads + d.shared;
            const int kv = head - d.heads - (is_key ? 0 : d.shared);
            float *from = (is_key ? key : value).data() + ((int64_t)row * d.shared + kv) * d.size;
            if (is_key) {
                loops.norm(layer.of_key, from, d.size, from);
                if (layer.cos) loops.turn(from, layer.cos + angle, layer.sin + angle, d.turned / 2);
                if (kv == 0) slots.position[slots.count + place[row]] = step->position[row];
            }
            uint16_t *to = (is_key ? slots.key : slots.value) + ((int64_t)kv * slots.room + slots.count + place[row]) * d.size;
            loops.narrow(from, d.size, to);
        }
    }

    static constexpr int GROUPS[] = {8, 4, 3, 2, 1};

    // How many heads that share keys one thread takes at once: as many as leave work for all threads. Narrower vectors have
    // too few registers for it.
    int group_of_heads() const {
        const int each = d.heads / d.shared;
        if (d.level < HALVES || d.size % SIDE_BY_SIDE) return 1;
        for (int count : GROUPS)
            if (each % count == 0 && (int64_t)step->rows * (d.heads / count) >= pool->members()) return count;
        return 1;
    }

    void attend_heads(const Layer &layer, int index, int rank) {
        const int group = group_of_heads(), each = d.heads / group;
        const Part mine = part((int64_t)step->rows * each, rank);
        for (int at = mine.first; at < mine.last; at++) {
            const int row = at / each, head = at % each * group, kv = head / (d.heads / d.shared);
            const Slots &slots = step->slots[(int64_t)step->sequence[row] * d.count + index];
            const int first = begins(layer, slots, row), last = slots.count + place[row] + 1;
            const int64_t from = (int64_t)kv * slots.room * d.size, to = ((int64_t)row * d.heads + head) * d.size;
            const uint16_t *key = slots.key + from, *value = slots.value + from;
            if (group == 1)
                loops.attend(query.data() + to, key, value, slots.bias, first, last, d.size, layer.scaling, layer.cap,
                             score[rank].data(), seen.data() + to);
            else
                loops.heads(group, query.data() + to, key, value, slots.bias, first, last, d.size, layer.scaling, layer.cap,
                            score[rank].data(), room_of_scores, seen.data() + to);
        }
    }

    // Prompts, one sequence behind the other.
    void attends_by_tiles(const std::vector<int> &added) {
        int widest = 0;
        int64_t all = 0;
        segments.clear();
        tiled_heads = by_tiles && d.size % 32 == 0;
        for (int row = 0; tiled_heads && row < step->rows; row += segments.back().rows) {
            const int sequence = step->sequence[row], rows = added[sequence];
            tiled_heads = place[row] == 0;  // where rows were mixed, one of these is not its sequence's first
            int longest = 0;
            for (int layer = step->first; layer < step->last; layer++) {
                const Slots &slots = step->slots[(int64_t)sequence * d.count + layer];
                const int across = whole_keys(slots.count + rows);
                longest = across > longest ? across : longest;
            }
            segments.push_back({row, rows, sequence, all});
            all += (int64_t)d.shared * d.size * longest;
            widest = longest > widest ? longest : widest;
        }
        if (!tiled_heads) return;
        if (turned.size() < (size_t)all) turned.resize((size_t)all * 3 / 2), keys.resize(turned.size());
        for (std::vector<float> &one : score)
            if (one.size() < room_of_tiles(widest, d.size)) one.resize(room_of_tiles(widest, d.size) * 3 / 2);
    }

    // The first entry that a row sees, by halves: positions ascend.
    int begins(const Layer &layer, const Slots &slots, int row) const {
        int first = 0;
        if (layer.window > 0)
            for (int end = slots.count + place[row]; first < end;) {
                const int middle = (first + end) / 2;
                if (step->position[row] - slots.position[middle] < layer.window) end = middle;
                else first = middle + 1;
            }
        return first;
    }

    static int whole_keys(int entries) { return (entries + KEYS - 1) / KEYS * KEYS; }

    // Where a sequence's entries begin, and how many there are, in whole tiles.
    struct Span {
        const Slots &slots;
        int from, across;
        uint16_t *keys, *turned;
    };

    Span span_of(const Segment &one, const Layer &layer, int index) {
        const Slots &slots = step->slots[(int64_t)one.sequence * d.count + index];
        const int from = begins(layer, slots, one.row) / KEYS * KEYS;
        return {slots, from, whole_keys(slots.count + one.rows - from), keys.data() + one.at, turned.data() + one.at};
    }

    void turn_heads(const Layer &layer, int index, int rank) {
        const int each = d.size / KEYS;
        const Part mine = part((int64_t)segments.size() * d.shared * each, rank);
        for (int at = mine.first; at < mine.last; at++) {
            const Segment &one = segments[at / (d.shared * each)];
            const Span span = span_of(one, layer, index);
            const int kv = at / each % d.shared, dim = at % each * KEYS;
            const int64_t from = (int64_t)kv * span.slots.room * d.size, to = (int64_t)kv * d.size * span.across;
            const int entries = span.slots.count + one.rows;
            tile_keys(span.slots.key + from, d.size, d.size, dim, span.from, entries, span.across, span.keys + to);
            tile_values(span.slots.value + from, d.size, dim, span.from, entries, span.across, span.turned + to);
        }
    }

    void attend_blocks(const Layer &layer, int index, int rank) {
        int at = 0;  // later rows see more: in turn
        for (const Segment &one : segments) {
            const Span span = span_of(one, layer, index);
            for (int row = 0; row < one.rows; row += BLOCK)
                for (int head = 0; head < d.heads; head++)
                    if (at++ % pool->members() == rank) attend_block(layer, one, span, row, head, rank);
        }
    }

    void attend_block(const Layer &layer, const Segment &one, const Span &span, int row, int head, int rank) {
        const int kv = head / (d.heads / d.shared);
        const int64_t stride = (int64_t)d.heads * d.size, begin = (one.row + row) * stride + head * d.size;
        const int64_t at = (int64_t)kv * d.size * span.across;
        Seen of{query.data() + begin, span.keys + at, span.turned + at, span.slots.bias, stride, span.across, {}, {},
                one.rows - row < BLOCK ? one.rows - row : BLOCK, d.size, span.from, layer.scaling, layer.cap};
        for (int t = 0; t < of.rows; t++)
            of.first[t] = begins(layer, span.slots, one.row + row + t), of.last[t] = span.slots.count + row + t + 1;
        attend_tiles(of, d.level >= BY_AMX, score[rank].data(), seen.data() + begin, stride);
    }

    void round_all(const float *from, int in, int rank) {
        const Part mine = part(step->rows, rank);
        for (int row = mine.first; row < mine.last; row++) round_row(from + (int64_t)row * in, row, in);
    }

    void activate(const Layer &layer, int rank) {
        const Part mine = part(step->rows, rank);
        for (int row = mine.first; row < mine.last; row++) {
            float *to = gate.data() + (int64_t)row * d.inner;
            loops.gate(to, up.data() + (int64_t)row * d.inner, d.inner, layer.activation);
            round_row(to, row, d.inner);
        }
    }

    void layer(int index, int rank) {
        const Layer &l = d.layers[index];
        const int wide = d.heads * d.size, narrow = d.shared * d.size;
        norm_and_round(l.before_attention, rank);
        pool->meet();
        products<3>({{&l.query, query.data(), wide, &l.thin[0]}, {&l.key, key.data(), narrow, &l.thin[1]},
                     {&l.value, value.data(), narrow, &l.thin[2]}}, normed.data(), d.width, rank);
        pool->meet();
        place_heads(l, index, rank);
        pool->meet();
        if (tiled_heads) {
            turn_heads(l, index, rank);
            pool->meet();
            attend_blocks(l, index, rank);
        } else {
            attend_heads(l, index, rank);
        }
        pool->meet();
        round_all(seen.data(), wide, rank);
        pool->meet();
        products<1>({{&l.out, made.data(), d.width, &l.thin[3]}}, seen.data(), wide, rank);
        pool->meet();
        add_back(l.after_attention, rank);
        norm_and_round(l.before_mlp, rank);
        pool->meet();
        products<2>({{&l.gate, gate.data(), d.inner, &l.thin[4]}, {&l.up, up.data(), d.inner, &l.thin[5]}}, normed.data(), d.width, rank);
        pool->meet();
        activate(l, rank);
        pool->meet();
        products<1>({{&l.down, made.data(), d.width, &l.thin[6]}}, gate.data(), d.inner, rank);
        pool->meet();
        add_back(l.after_mlp, rank);
    }

    void work(int rank) {
        begin_rows(rank);
        for (int index = step->first; index < step->last; index++) layer(index, rank);
        pool->meet();
        if (step->left && rank == 0) memcpy(step->left, x.data(), sizeof(float) * step->rows * d.width);
        finish(rank);
    }

    // Logits of the wanted rows, and the best word of each.
    void finish(int rank) {
        if (rank == 0) {
            wanted = 0;
            int all = 0;
            for (int row = 0; row < step->rows; row++) all += step->wanted[row] != 0;
            choose(all, d.ends);
            for (int row = 0; row < step->rows; row++)
                if (step->wanted[row]) {
                    float *to = normed.data() + (int64_t)wanted * d.width;
                    loops.norm(d.last, x.data() + (int64_t)row * d.width, d.width, to);
                    round_row(to, wanted++, d.width);
                }
        }
        pool->meet();
        if (wanted == 0) return;
        const Rounded rounded = inputs(normed.data(), wanted, d.width);
        const Part mine = part(blocks_of(d.head), rank);
        for (int row = 0; row < wanted; row++) best[(size_t)rank * most + row] = {-INFINITY, -1};
        for (int block = mine.first; block < mine.last; block += SOME) {
            const int end = block + SOME < mine.last ? block + SOME : mine.last, from = block * BLOCK;
            const int to = end * BLOCK < d.head.out ? end * BLOCK : d.head.out;
            const int64_t stride = step->logits ? d.head.out : SOME * BLOCK;
            float *y = step->logits ? step->logits + from : shown[rank].data();
            multiply(d.head, rounded, block, end, d.level, room_of(rank), y, stride, !few);
            for (int row = 0; row < wanted; row++) look(y + row * stride, from, to - from, best[(size_t)rank * most + row]);
        }
        pool->meet();
        if (rank == 0)
            for (int row = 0; row < wanted; row++) {
                Best found = best[row];
                for (int other = 1; other < pool->members(); other++)
                    if (best[(size_t)other * most + row].logit > found.logit) found = best[(size_t)other * most + row];
                step->best[row] = found.word;
            }
    }

    struct Best {
        float logit;
        int32_t word;
    };

    void look(float *logits, int from, int count, Best &found) const {
        for (int i = 0; i < count; i++) {
            if (d.cap > 0.0f) logits[i] = d.cap * std::tanh(logits[i] / d.cap);
            if (logits[i] > found.logit) found = {logits[i], from + i};
        }
    }

    const Loops loops;
    const Step *step = nullptr;
    Pool *pool = nullptr;
    int most, wanted = 0, chunk = 0, room_of_scores = 0;
    bool by_tiles = false, few = true, tiled_heads = false;
    std::vector<Segment> segments;
    Lines<uint16_t> keys, turned;  // and values of one layer, in tiles
    std::vector<std::vector<float>> shown, added;
    int widest_thin = 0;  // of what stands beside products
    std::vector<float> thin[3];
    Lines<uint16_t> thin_words[3];
    Lines<uint16_t> words;  // inputs in bfloat16, for tiles
    std::vector<Lines<uint8_t>> room;
    std::vector<float> x, normed, query, key, value, seen, gate, up, made, scale, sum, total;
    std::vector<int8_t> code, low;
    std::vector<int> place;  // of each row among those of its sequence in this step
    std::vector<std::vector<float>> score;
    std::vector<Best> best;
};

}  // namespace

// Threads and room for steps of at most `rows` rows; null where there is no memory. `decoder` is copied, what it points to
// must stay.
extern "C" void *trimtab_decoder_new(const Decoder *decoder, int threads, int rows) {
    try {
        return new State(*decoder, threads, rows);
    } catch (const std::bad_alloc &) {
        return nullptr;
    }
}

extern "C" void trimtab_decoder_free(void *state) { delete (State *)state; }

// One step; rows of a sequence stand in their order, and its slots have room for them. 0 when done, 1 without memory.
extern "C" int trimtab_decoder_step(void *state, const Step *step) {
    try {
        ((State *)state)->run(*step);
        return 0;
    } catch (const std::bad_alloc &) {
        return 1;
    }
}

extern "C" int trimtab_level() { return widest_level(); }
