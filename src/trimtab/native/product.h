// y = x W^T of few rows by packed codes, read once: what decoding is made of.
//
// Rows of W stand in blocks of 16, whose codes lie side by side, so that one line of 64 bytes feeds 16 sums:
//   4 bits: line k holds inputs 8k .. 8k+7; byte 4r + i is code(r, 8k + i) | code(r, 8k + 4 + i) << 4
//   8 bits: line k holds inputs 4k .. 4k+3; byte 4r + i is code(r, 4k + i)
//   16 bits: line k holds inputs 2k, 2k+1 as bfloat16; word 2r + i is w(r, 2k + i)
//   32 bits: line k holds input k as float32
//   16 bits of which some are stored: lines as those of 16 bits, made of a mask of 32 bits for each and the values one behind
//   the other (expand.h)
// By AVX-512 inputs are rounded to 16 bits in chunks, each with a scale of its own (max |x| / 32512), in two bytes, and the
// products of either with codes are summed as integers. Below it a few rows of inputs are taken as they are and codes
// multiplied as floats; more of them are rounded to 8 bits (max |x| / 127). Levels are always looked up and multiplied in
// float32, as are rows of 16 and 32 bits.

#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "portable.h"

constexpr int BLOCK = 16;

enum Kind { CODES4 = 4, CODES8 = 8, WORDS16 = 16, SOME16 = 17, FLOATS32 = 32 };

struct Matrix {  // as runtime/plan/layout.py fills it
    const uint8_t *codes;
    const void *scale;    // (blocks, groups, 16)
    const uint8_t *zero;  // (blocks, groups, 16); null: 2^(bits - 1)
    const float *bias;    // (out); null: none
    const float *levels;  // (16): what a 4-bit code stands for before its scale; null: the code less its zero
    const uint16_t *values;  // of SOME16, whose `codes` are masks: 32 more can be read behind the last
    const int64_t *starts;   // (blocks): where each block's begin
    int32_t kind, out, in, group, stored, reserved;
};

struct Rounded {  // rows of inputs
    const float *x;      // (rows, in)
    const int8_t *code;  // (rows, in): of 8 bits, or the upper half of 16
    const int8_t *low;   // (rows, in): the lower half, -128 to 127; null: there is none
    const float *scale;  // (rows, in / chunk)
    const float *sum;    // (rows, in / chunk): of codes
    const float *total;  // (rows, in / chunk): of x
    const uint16_t *words;  // x in bfloat16, tile by tile of 16 rows and TILE inputs, rows by rows; null: not wanted
    int rows, in, chunk;
};

// Numbers that begin a line of 64 bytes: a tile's row that does not is read from two.
template <class T> struct Aligned {
    using value_type = T;
    Aligned() = default;
    template <class U> Aligned(const Aligned<U> &) {}
    T *allocate(size_t count) { return (T *)::operator new(count * sizeof(T), std::align_val_t(64)); }
    void deallocate(T *at, size_t) { ::operator delete(at, std::align_val_t(64)); }
    template <class U> bool operator==(const Aligned<U> &) const { return true; }
    template <class U> bool operator!=(const Aligned<U> &) const { return false; }
};
template <class T> using Lines = std::vector<T, Aligned<T>>;

constexpr int TILE = 32;  // inputs; rows of tiles side by side would fall into few places of the cache
inline size_t tile_of(int row, int in) { return (size_t)(row / BLOCK) * BLOCK * in + row % BLOCK * TILE; }
constexpr size_t NEXT_TILE = BLOCK * TILE;
// Bytes for two blocks of weights in 16 bits, and their sums.
inline size_t room_for(int in, int rows) {
    const size_t pairs = (rows + 2 * BLOCK - 1) / (2 * BLOCK);
    return (size_t)in * 2 * BLOCK * sizeof(uint16_t) + pairs * 4 * BLOCK * BLOCK * sizeof(float);
}

inline int blocks_of(const Matrix &m) { return (m.out + BLOCK - 1) / BLOCK; }

// Codes, scales and sums of a row of x; without `code` only the sums of x, without `low` in 8 bits.
void round_inputs(const float *x, int in, int chunk, int8_t *code, int8_t *low, float *scale, float *sum, float *total);
constexpr int HALVES = 2;  // the level from which inputs are rounded to 16 bits

// y (rows, stride) of blocks [first, last) of m, the first at y; `level`: 0 plain C++, 1 AVX2, 2 AVX-512 with VNNI, 3 also
// with pairs of bfloat16, 4 also AMX. `room`: room_for(m.in, x.rows), for x in `words`. `whole`: by rounded inputs, where m
// is of even steps.
void multiply(const Matrix &m, const Rounded &x, int first, int last, int level, uint8_t *room, float *y, int64_t stride,
              bool whole);
void multiply_tiles(const Matrix &m, const Rounded &x, int first, int last, int level, uint8_t *room, float *y, int64_t stride);
constexpr int TILED = 3;  // the level from which many rows are multiplied tile by tile, in vectors or
constexpr int BY_AMX = 4;
inline bool tiled(const Matrix &m, const Rounded &x) { return x.words && m.in % 32 == 0 && m.kind != FLOATS32; }

// Row `row` of m times `factor`, as a table of words is read.
void read_row(const Matrix &m, int row, float factor, float *y);

// The widest level of this CPU.
int widest_level();

constexpr int MOST = 4;  // rows of inputs at once

// Sums (rows, 16) of one block without its bias, for rows from, from + 1, ... of x; `whole`: by rounded inputs.
using Block = void (*)(const Matrix &m, const Rounded &x, int block, int from, bool whole, float *sums);
extern const Block PLAIN[MOST], BY_AVX2[MOST], BY_AVX512[MOST];  // by how many rows, less one

inline size_t block_bytes(const Matrix &m) { return (size_t)m.in * BLOCK * (m.kind == SOME16 ? 1 : m.kind) / 8; }
