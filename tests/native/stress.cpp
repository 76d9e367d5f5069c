// The compiled library by itself, under the sanitizers: decoders of odd sizes at every level of instructions, by one thread
// and by several, from several callers at once; every array as long as it must be and no longer. Ends with status 1 where
// threads change an answer, or an answer is no number.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "../../src/trimtab/native/attention.h"
#include "../../src/trimtab/native/decode.h"

extern "C" {
void *trimtab_decoder_new(const Decoder *decoder, int threads, int rows);
void trimtab_decoder_free(void *state);
int trimtab_decoder_step(void *state, const Step *step);
int trimtab_level();
int trimtab_product(const Matrix *m, const void *x, int stored, int64_t rows, int chunk, int level, int threads, void *y);
int trimtab_mlp(const Matrix *up, const Matrix *down, int activation, const void *x, int stored, int64_t rows, int chunk,
                int then, int level, int threads, void *y);
int trimtab_attend(const Whole *given, int wanted);
void trimtab_rows(const Matrix *m, const int64_t *number, int64_t count, float *y);
uint64_t trimtab_read(const uint64_t *from, int64_t count, int wanted);
}

namespace {

int failures = 0;

void check(bool holds, const std::string &what) {
    if (holds) return;
    failures++;
    fprintf(stderr, "stress: %s\n", what.c_str());
}

struct Random {
    std::mt19937 source;
    float number() { return std::uniform_real_distribution<float>(-1.0f, 1.0f)(source); }
    uint8_t byte() { return (uint8_t)source(); }
};

uint16_t bfloat(float x) {
    uint16_t made;
    narrow(x, &made);
    return made;
}

struct Held {  // a matrix with its arrays
    Matrix m{};
    std::vector<uint8_t> codes, zero;
    std::vector<float> scale, bias;
    std::vector<uint16_t> words;
    std::vector<int64_t> starts;

    Held(Random &random, int kind, int out, int in, int group, bool biased = false) {
        const int blocks = (out + BLOCK - 1) / BLOCK, groups = kind <= CODES8 ? in / group : 0;
        codes.resize((size_t)blocks * BLOCK * in * (kind == SOME16 ? 1 : kind) / 8);
        if (kind == SOME16) {
            for (size_t i = 0; i < codes.size(); i++) {
                if (i % (2 * in) == 0) starts.push_back((int64_t)words.size());
                codes[i] = i % 7 == 3 ? 255 : random.byte();
                for (int bit = 0; bit < 8; bit++)
                    if (codes[i] >> bit & 1) words.push_back(bfloat(0.2f * random.number()));
            }
            words.resize(words.size() + 2 * BLOCK);
        } else if (kind <= CODES8)
            for (uint8_t &one : codes) one = random.byte();
        else
            for (size_t i = 0; i < (size_t)blocks * BLOCK * in; i++) {
                const float x = 0.2f * random.number();
                const uint16_t word = bfloat(x);
                if (kind == WORDS16) memcpy(codes.data() + 2 * i, &word, 2);
                else memcpy(codes.data() + 4 * i, &x, 4);
            }
        for (int i = 0; i < blocks * groups * BLOCK; i++) {
            scale.push_back(0.02f * (1.5f + random.number()) / (kind == CODES8 ? 16 : 1));
            zero.push_back(kind == CODES8 ? random.byte() : random.byte() & 15);
        }
        for (int i = 0; biased && i < out; i++) bias.push_back(random.number());
        m.codes = codes.data(), m.scale = scale.data(), m.zero = groups ? zero.data() : nullptr;
        m.values = words.data(), m.starts = starts.data();
        m.bias = biased ? bias.data() : nullptr;
        m.kind = kind, m.out = out, m.in = in, m.group = groups ? group : in, m.stored = FLOAT32;
    }
};

struct Model {
    static constexpr int COUNT = 3, WIDTH = 64, HEADS = 4, SHARED = 2, SIZE = 64, INNER = 96, WORDS = 103, SPAN = 128;
    std::vector<Held> held;
    std::vector<Layer> layers;
    std::vector<float> ones = std::vector<float>(WIDTH, 1.0f), cos, sin;
    Decoder d{};

    Model(Random &random, int kind, int level) {
        held.reserve(COUNT * 9 + 1);
        const auto matrix = [&](int out, int in, bool biased) {
            held.emplace_back(random, kind, out, in, in % 32 ? 16 : 32, biased);
            return held.back().m;
        };
        for (int i = 0; i < SPAN * SIZE / 2; i++) cos.push_back(std::cos(0.01f * i)), sin.push_back(std::sin(0.01f * i));
        const Norm norm{ones.data(), nullptr, 1, 1e-6f};
        for (int i = 0; i < COUNT; i++) {
            Layer one{};
            one.before_attention = one.before_mlp = norm;
            one.query = matrix(HEADS * SIZE, WIDTH, true), one.key = matrix(SHARED * SIZE, WIDTH, false);
            one.value = matrix(SHARED * SIZE, WIDTH, false), one.out = matrix(WIDTH, HEADS * SIZE, false);
            one.gate = matrix(INNER, WIDTH, false), one.up = matrix(INNER, WIDTH, false), one.down = matrix(WIDTH, INNER, true);
            one.cos = cos.data(), one.sin = sin.data(), one.window = i == 1 ? 9 : 0, one.activation = 1 + i % 2;
            one.scaling = 0.2f, one.cap = i == 2 ? 20.0f : 0.0f;
            for (int at = 0; i == 1 && at < 7; at += 5) {  // queries, and the second of two products
                const int rank = at ? 32 : 288;  // also wider than all that is not thin
                held.emplace_back(random, WORDS16, rank, WIDTH, 32);
                one.thin[at].down = held.back().m;
                held.emplace_back(random, WORDS16, at ? INNER : HEADS * SIZE, rank, 32);
                one.thin[at].up = held.back().m;
            }
            layers.push_back(one);
        }
        d.layers = layers.data(), d.table = d.head = matrix(WORDS, WIDTH, false), d.last = norm, d.count = COUNT;
        d.width = WIDTH, d.heads = HEADS, d.shared = SHARED, d.size = SIZE, d.turned = SIZE, d.inner = INNER;
        d.chunk = d.ends = 32, d.positions = SPAN, d.level = level, d.factor = 1.0f, d.cap = 0.0f;
    }
};

struct Cache {  // of some sequences, with room for `room` entries each
    std::vector<std::vector<uint16_t>> key, value;
    std::vector<std::vector<int32_t>> position;
    std::vector<Slots> slots;

    Cache(int sequences, int room) {
        for (int i = 0; i < sequences * Model::COUNT; i++) {
            key.emplace_back((size_t)Model::SHARED * room * Model::SIZE);
            value.emplace_back(key.back().size()), position.emplace_back(room);
        }
        for (size_t i = 0; i < key.size(); i++)
            slots.push_back({key[i].data(), value[i].data(), position[i].data(), nullptr, 0, room});
    }
};

// Logits of a prompt of one sequence, of a word of each of two, and of some words at once.
std::vector<float> said(const Model &model, int threads) {
    std::vector<float> all;
    void *state = trimtab_decoder_new(&model.d, threads, 64);
    Cache cache(2, 96);
    const auto step = [&](const std::vector<int32_t> &token, const std::vector<int32_t> &position,
                          const std::vector<int32_t> &sequence) {
        const int rows = (int)token.size();
        std::vector<uint8_t> wanted(rows, 1);
        std::vector<float> logits((size_t)rows * Model::WORDS), left((size_t)rows * Model::WIDTH);
        std::vector<int32_t> best(rows);
        Step one{token.data(), nullptr, left.data(), position.data(), sequence.data(), wanted.data(), cache.slots.data(),
                 logits.data(), best.data(), rows, 0, Model::COUNT, 0};
        check(trimtab_decoder_step(state, &one) == 0, "a step failed");
        for (int row = 0; row < rows; row++)
            for (int i = 0; i < Model::WORDS; i++)
                check(logits[row * Model::WORDS + best[row]] >= logits[row * Model::WORDS + i], "the best word is not");
        all.insert(all.end(), logits.begin(), logits.end());
    };
    std::vector<int32_t> token, position, sequence;
    for (int i = 0; i < 43; i++) token.push_back((7 * i) % Model::WORDS), position.push_back(i), sequence.push_back(0);
    step(token, position, sequence);
    step({5, 6}, {43, 0}, {0, 1});
    step({1, 2, 3}, {44, 45, 46}, {0, 0, 0});
    step(std::vector<int32_t>(7, 9), {1, 2, 3, 4, 5, 6, 7}, std::vector<int32_t>(7, 1));
    trimtab_decoder_free(state);
    for (float one : all) check(std::isfinite(one), "a logit is no number");
    return all;
}

void products(Random &random, int kind, int level) {
    for (int rows : {1, 3, 5, 17, 33})
        for (int in : {32, 48, 96}) {
            const Held held(random, kind, 37, in, 16, true);
            std::vector<float> x((size_t)rows * in), y((size_t)rows * 37), alone(y.size()), row(in);
            std::vector<uint16_t> words, narrow_y(y.size());
            for (float &one : x) one = random.number(), words.push_back(bfloat(one));
            trimtab_product(&held.m, x.data(), FLOAT32, rows, 16, level, 3, y.data());
            trimtab_product(&held.m, x.data(), FLOAT32, rows, 16, level, 1, alone.data());
            check(y == alone, "threads change a product");
            trimtab_product(&held.m, words.data(), BFLOAT16, rows, 16, level, 2, narrow_y.data());
            for (size_t i = 0; i < y.size(); i++)
                check(std::fabs(wide(narrow_y[i]) - y[i]) < 0.05f * (1.0f + std::fabs(y[i])), "a product in bfloat16 is far off");
            const int64_t number = 36;
            trimtab_rows(&held.m, &number, 1, row.data());
        }
}

void mlps(Random &random, int kind, int level) {
    for (int rows : {1, 5, 33, 530}) {
        const Held up(random, kind, 64, 32, 16, true), down(random, kind, 37, 64, 32, true);
        std::vector<float> x((size_t)rows * 32), y((size_t)rows * 37), alone(y.size());
        std::vector<uint16_t> words, narrow_y(y.size());
        for (float &one : x) one = random.number(), words.push_back(bfloat(one));
        for (int activation = 0; activation < 4; activation++) {
            trimtab_mlp(&up.m, &down.m, activation, x.data(), FLOAT32, rows, 16, 32, level, 3, y.data());
            trimtab_mlp(&up.m, &down.m, activation, x.data(), FLOAT32, rows, 16, 32, level, 1, alone.data());
            check(y == alone, "threads change an MLP");
            trimtab_mlp(&up.m, &down.m, activation, words.data(), BFLOAT16, rows, 16, 32, level, 2, narrow_y.data());
            for (size_t i = 0; i < y.size(); i++)
                check(std::fabs(wide(narrow_y[i]) - y[i]) < 0.1f * (1.0f + std::fabs(y[i])), "an MLP in bfloat16 is far off");
        }
        check(trimtab_mlp(&up.m, &down.m, 4, x.data(), FLOAT32, rows, 16, 32, level, 1, y.data()) == 2, "an activation that is none");
    }
}

// Of equal values every weighted sum is one of them, whatever the weights.
void attention(Random &random, int level) {
    for (int rows : {1, 17})
        for (int entries : {1, 31, 65}) {
            constexpr int BATCH = 2, HEADS = 4, SHARED = 2, SIZE = 32;
            std::vector<uint16_t> q((size_t)BATCH * rows * HEADS * SIZE), k((size_t)BATCH * entries * SHARED * SIZE), v(k.size()), y(q.size());
            for (uint16_t &one : q) one = bfloat(random.number());
            for (uint16_t &one : k) one = bfloat(random.number());
            for (uint16_t &one : v) one = bfloat(0.75f);
            const int64_t wide_q = HEADS * SIZE, wide_k = SHARED * SIZE;
            const Whole given{q.data(), k.data(), v.data(), y.data(), {rows * wide_q, SIZE, wide_q}, {entries * wide_k, SIZE, wide_k},
                              {entries * wide_k, SIZE, wide_k}, {rows * wide_q, SIZE, wide_q}, BATCH, HEADS, SHARED, rows, entries,
                              SIZE, level, 0, 0.3f};
            const int done = trimtab_attend(&given, 3);
            check(done == (level < TILED ? 2 : 0), "attention at a level that has none");
            for (size_t i = 0; done == 0 && i < y.size(); i++) check(std::fabs(wide(y[i]) - 0.75f) < 0.01f, "a mean of equals is another");
        }
}

void everything(int seed, int level) {
    for (int kind : {CODES4, CODES8, WORDS16, SOME16, FLOATS32}) {
        Random random{std::mt19937(seed)};
        const Model model(random, kind, level);
        const std::vector<float> alone = said(model, 1);
        for (int threads : {2, 3}) check(said(model, threads) == alone, "threads change an answer");
        products(random, kind, level);
        mlps(random, kind, level);
        attention(random, level);
    }
}

}  // namespace

int main() {
    const int widest = trimtab_level();
    for (int level = 0; level <= widest; level++) {
        everything(level, level);
        std::vector<std::thread> callers;
        for (int i = 0; i < 3; i++) callers.emplace_back([=] { everything(100 + i, level); });
        for (std::thread &one : callers) one.join();
        printf("level %d: done\n", level);
    }
    std::vector<uint64_t> numbers(1001, 3);
    check(trimtab_read(numbers.data(), (int64_t)numbers.size(), 3) == 3003, "not all was read");
    printf("%d failures\n", failures);
    return failures != 0;
}
