// GPTQ's sweep over columns, and rounding to nearest, on uniform grids per row and group: the compiled form of
// quantize/gptq.py::solve and quantize/grid.py, which say what is computed and which the laws compare with this.
//
// A matrix comes transposed, (n, rows): a column of W is contiguous, and rows are worked on 64 at a time, side by side
// in vector registers. Plain C interface over pointers; one source for every width of vector, chosen at run time where
// the compiler can do that.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "portable.h"

namespace {

constexpr int LANES = 16, VECTORS = 4, TILE = LANES * VECTORS;
constexpr int DEPTH = 32;   // columns fixed before the rest of the tile is brought up to date
constexpr int COLUMNS = 4;  // brought up to date at once, so that they stay in registers

typedef float vf __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));

struct Knobs {
    int n, group, bits, symmetric, tries, stored;
    const float *shrinks;  // shares of the full range that the clip search tries, widest first
    const float *weight;   // (n,) what a squared error of each column counts there
};

struct Grid {
    vf scale[VECTORS], zero[VECTORS];
};

INLINE vf splat(float x) { return x - vf{}; }

INLINE vf least(vf a, vf b) { return a < b ? a : b; }

INLINE vf most(vf a, vf b) { return a > b ? a : b; }

INLINE vf nearest(vf x) {  // ties to even, for |x| < 2**22
    const vf magic = splat(12582912.0f);
    return (x + magic) - magic;
}

INLINE vf as_stored(vf x, int stored) {  // rounded to the dtype of the checkpoint, in float32
    if (stored == BFLOAT16) {
        vi bits = (vi)x;
        bits = (bits + 0x7fff + ((bits >> 16) & 1)) & (int32_t)0xffff0000;
        return (vf)bits;
    }
    if (stored == FLOAT16)
        for (int i = 0; i < LANES; i++) x[i] = (float)(_Float16)x[i];
    return x;
}

INLINE vf encode(vf w, vf scale, vf zero, float top) {
    const vf steps = most(splat(-512.0f), least(splat(512.0f), w / scale));
    return most(splat(0.0f), least(splat(top), nearest(steps) + zero));
}

INLINE vf decode(vf code, vf scale, vf zero, int stored) { return as_stored((code - zero) * scale, stored); }

INLINE void span_grid(vf low, vf high, const Knobs &k, vf &scale, vf &zero) {
    const float top = (float)((1 << k.bits) - 1), half = (float)(1 << (k.bits - 1));
    scale = k.symmetric ? most(-low / half, high / (half - 0.5f)) : (high - low) / top;
    scale = as_stored(scale, k.stored);
    scale = scale == 0.0f ? splat(1.0f) : scale;
    zero = k.symmetric ? splat(half) : most(splat(0.0f), least(splat(top), nearest(least(splat(512.0f), -low / scale))));
}

// The grid of least weighted squared error among shrunken ranges of `group` columns; on a tie the wider one stays.
INLINE Grid fit_grid(const float *tile, const float *weight, int group, const Knobs &k) {
    const float top = (float)((1 << k.bits) - 1);
    Grid best;
    for (int v = 0; v < VECTORS; v++) {
        const vf *w = (const vf *)tile + v;
        vf low = {}, high = {};
        for (int i = 0; i < group; i++) {
            low = least(low, w[i * VECTORS]);
            high = most(high, w[i * VECTORS]);
        }
        span_grid(low, high, k, best.scale[v], best.zero[v]);
        if (k.tries < 2) continue;
        vf fewest = splat(3.0e38f);
        for (int t = 0; t < k.tries; t++) {
            vf scale, zero, lost = {};
            span_grid(low * k.shrinks[t], high * k.shrinks[t], k, scale, zero);
            for (int i = 0; i < group; i++) {
                const vf x = w[i * VECTORS];
                const vf d = decode(encode(x, scale, zero, top), scale, zero, k.stored) - x;
                lost += weight[i] * (d * d);
            }
            const vi better = lost < fewest;
            fewest = better ? lost : fewest;
            best.scale[v] = better ? scale : best.scale[v];
            best.zero[v] = better ? zero : best.zero[v];
        }
    }
    return best;
}

// tile[j] -= sum_k u[k][j] errors[k] for j in [from, n), over `depth` fixed columns.
INLINE void bring_up(float *tile, const float *u, const float *errors, int depth, int from, int n) {
    const vf *e = (const vf *)errors;
    int j = from;
    for (; j + COLUMNS <= n; j += COLUMNS) {
        vf sum[COLUMNS][VECTORS] = {};
        for (int k = 0; k < depth; k++) {
            const float *row = u + (size_t)k * n + j;
            for (int c = 0; c < COLUMNS; c++)
                for (int v = 0; v < VECTORS; v++) sum[c][v] += row[c] * e[k * VECTORS + v];
        }
        for (int c = 0; c < COLUMNS; c++)
            for (int v = 0; v < VECTORS; v++) ((vf *)tile)[(size_t)(j + c) * VECTORS + v] -= sum[c][v];
    }
    for (; j < n; j++)
        for (int k = 0; k < depth; k++)
            for (int v = 0; v < VECTORS; v++)
                ((vf *)tile)[(size_t)j * VECTORS + v] -= u[(size_t)k * n + j] * e[k * VECTORS + v];
}

struct Out {  // of a tile: codes (n, TILE), scale and zero (groups, TILE)
    uint8_t *codes;
    float *scale, *zero;
};

CLONES void work(float *tile, const float *u, const Knobs &k, Out out) {
    const float top = (float)((1 << k.bits) - 1);
    alignas(64) float errors[DEPTH * TILE];
    for (int start = 0; start < k.n; start += k.group) {
        const int stop = start + k.group;
        const Grid grid = fit_grid(tile + (size_t)start * TILE, k.weight + start, k.group, k);
        memcpy(out.scale + (size_t)start / k.group * TILE, grid.scale, sizeof grid.scale);
        memcpy(out.zero + (size_t)start / k.group * TILE, grid.zero, sizeof grid.zero);
        for (int a = start; a < stop; a += DEPTH) {
            const int b = std::min(a + DEPTH, stop);
            for (int i = a; i < b; i++) {
                alignas(64) int32_t code[TILE];
                for (int v = 0; v < VECTORS; v++) {
                    const vf x = ((vf *)tile)[(size_t)i * VECTORS + v];
                    const vf c = encode(x, grid.scale[v], grid.zero[v], top);
                    ((vi *)code)[v] = __builtin_convertvector(c, vi);
                    if (!u) continue;
                    const vf e = (x - decode(c, grid.scale[v], grid.zero[v], k.stored)) / u[(size_t)i * k.n + i];
                    ((vf *)errors)[(i - a) * VECTORS + v] = e;
                    for (int j = i + 1; j < b; j++) ((vf *)tile)[(size_t)j * VECTORS + v] -= u[(size_t)i * k.n + j] * e;
                }
                for (int r = 0; r < TILE; r++) out.codes[(size_t)i * TILE + r] = (uint8_t)code[r];
            }
            if (u && b < k.n) bring_up(tile, u + (size_t)a * k.n, errors, b - a, b, k.n);
        }
    }
}

// tile = (x - Q(x)) back for the x that it holds, Q to nearest on the grid of each group's full range.
CLONES void lose(float *tile, const float *back, const Knobs &k) {
    const float top = (float)((1 << k.bits) - 1);
    for (int start = 0; start < k.n; start += k.group) {
        const Grid grid = fit_grid(tile + (size_t)start * TILE, k.weight, k.group, k);
        for (int i = start; i < start + k.group; i++)
            for (int v = 0; v < VECTORS; v++) {
                vf &x = ((vf *)tile)[(size_t)i * VECTORS + v];
                const vf value = decode(encode(x, grid.scale[v], grid.zero[v], top), grid.scale[v], grid.zero[v], k.stored);
                x = (x - value) * back[i];
            }
    }
}

}  // namespace

// What rounding W^T (n, rows) to nearest loses where its inputs are divided by `back` (n,) before and multiplied by it
// behind: lost (n, rows). 0 when done, 1 where there is not enough memory.
extern "C" int trimtab_lost(const float *w, const float *back, int n, int rows, int group, int bits, int symmetric,
                            int stored, float *lost) {
    const Knobs knobs = {n, group, bits, symmetric, 1, stored, nullptr, nullptr};
    try {
        std::vector<float> room((size_t)n * TILE + LANES);
        float *tile = (float *)(((uintptr_t)room.data() + 63) & ~(uintptr_t)63);
        for (int start = 0; start < rows; start += TILE) {
            const int count = std::min(TILE, rows - start);
            for (int i = 0; i < n; i++) {
                const float *from = w + (size_t)i * rows + start;
                for (int r = 0; r < count; r++) tile[(size_t)i * TILE + r] = from[r] / back[i];
                memset(tile + (size_t)i * TILE + count, 0, (TILE - count) * sizeof(float));
            }
            lose(tile, back, knobs);
            for (int i = 0; i < n; i++)
                memcpy(lost + (size_t)i * rows + start, tile + (size_t)i * TILE, count * sizeof(float));
        }
    } catch (const std::bad_alloc &) {
        return 1;
    }
    return 0;
}

// Codes (n, rows), scales and zeros (n / group, rows) of W^T, which is only read. `u` (n, n) upper triangular with
// (H + damp I)^-1 = U^T U, or null for rounding to nearest. 0 when done, 1 where there is not enough memory.
extern "C" int trimtab_sweep(const float *w, const float *u, const float *weight, const float *shrinks, int tries, int n,
                             int rows, int group, int bits, int symmetric, int stored, uint8_t *codes, float *scale,
                             float *zero) {
    const Knobs knobs = {n, group, bits, symmetric, tries, stored, shrinks, weight};
    const int groups = n / group;
    const size_t numbers = (size_t)(n + 2 * groups) * TILE + LANES;
    try {
        std::vector<float> room(numbers);
        std::vector<uint8_t> made((size_t)n * TILE);
        float *tile = (float *)(((uintptr_t)room.data() + 63) & ~(uintptr_t)63);
        float *scales = tile + (size_t)n * TILE, *zeros = scales + (size_t)groups * TILE;
        for (int start = 0; start < rows; start += TILE) {
            const int count = std::min(TILE, rows - start);
            for (int i = 0; i < n; i++) {
                memcpy(tile + (size_t)i * TILE, w + (size_t)i * rows + start, count * sizeof(float));
                memset(tile + (size_t)i * TILE + count, 0, (TILE - count) * sizeof(float));
            }
            work(tile, u, knobs, {made.data(), scales, zeros});
            for (int i = 0; i < n; i++) memcpy(codes + (size_t)i * rows + start, made.data() + (size_t)i * TILE, count);
            for (int g = 0; g < groups; g++) {
                memcpy(scale + (size_t)g * rows + start, scales + (size_t)g * TILE, count * sizeof(float));
                memcpy(zero + (size_t)g * rows + start, zeros + (size_t)g * TILE, count * sizeof(float));
            }
        }
    } catch (const std::bad_alloc &) {
        return 1;
    }
    return 0;
}
