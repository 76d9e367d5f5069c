// Attention of a prompt's rows by tiles, in AMX or in vectors, 16 rows of one head at once; what it gives is what attend() of
// decode.cpp gives, with queries and weights rounded to bfloat16.

#pragma once

#include <cstddef>
#include <cstdint>

constexpr int KEYS = 32;  // entries are taken in steps of so many, and so are numbers of a head

// Tiles are 16 rows of 32 numbers, one behind the other: of keys by 16 entries and 32 numbers of a head, of values by 16
// numbers and 32 entries, all tiles of the first 16 rows before those of the next.
constexpr int64_t TILE_OF_ENTRIES = 16 * KEYS;

struct Seen {  // what up to 16 rows look at; entries count from `from`, a multiple of KEYS
    const float *query;            // (rows), `stride` numbers apart
    const uint16_t *key, *turned;  // `across` keys and values in tiles, from entry `from` on, 0 where there is none
    const float *bias;             // (entries); null: none
    int64_t stride, across;
    int32_t first[16], last[16];  // each row sees entries first .. last - 1
    int32_t rows, size, from;
    float scaling, cap;
};

struct Whole {  // of bidirectional.cpp: (batch, heads, count, size) each, numbers of a head side by side
    const uint16_t *query, *key, *value;
    uint16_t *y;
    int64_t of_query[3], of_key[3], of_value[3], of_y[3];  // from one batch, head and row to the next
    int32_t batch, heads, shared, rows, entries, size, level, reserved;
    float scaling;
};

// Numbers of room that a call needs.
inline size_t room_of_tiles(int64_t across, int size) { return (size_t)across * 24 + (size_t)size * 8 + 32; }

// Numbers dim .. dim + 31 of the heads of entries from .. count - 1, each `size` numbers and `next` behind the one before it,
// as tiles of keys and of values; 0 up to `across`.
void tile_keys(const uint16_t *key, int64_t next, int size, int dim, int from, int count, int64_t across, uint16_t *tiles);
void tile_values(const uint16_t *value, int64_t next, int dim, int from, int count, int64_t across, uint16_t *tiles);

// softmax(scaling q K^T + bias) V of each row, (rows, size), `out` numbers apart. `by_amx`: or in vectors.
void attend_tiles(const Seen &seen, bool by_amx, float *room, float *y, int64_t out);
