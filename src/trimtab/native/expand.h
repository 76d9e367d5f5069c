// Matrices of which some entries are stored: a block's lines of 16-bit weights, made as they are needed.

#pragma once

#include "product.h"

constexpr int PIECE = 64;  // inputs whose lines are made at once and stay near

struct Expander {
    const uint8_t *mask;    // 32 bits for a line: word 2r + i of it is stored, or 0
    const uint16_t *value;  // what is stored, one behind the other
    const bool wide;        // by AVX-512, where the CPU has what it takes

    Expander(const Matrix &m, int block, bool wide)
        : mask(m.codes + block * block_bytes(m)), value(m.values + m.starts[block]), wide(wide) {}

    // The lines of the next `inputs` inputs.
    void next(int inputs, uint16_t *to);
};
