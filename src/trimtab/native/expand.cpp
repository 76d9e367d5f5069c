// The lines of expand.h, by AVX-512 VBMI2 where the CPU has it.

#include "expand.h"

#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#endif

namespace {

uint32_t bits_of(const uint8_t *mask) {
    uint32_t bits;
    memcpy(&bits, mask, sizeof bits);
    return bits;
}

const uint16_t *by_words(const uint8_t *mask, const uint16_t *value, int lines, uint16_t *to) {
    for (int line = 0; line < lines; line++, to += 2 * BLOCK) {
        const uint32_t bits = bits_of(mask + 4 * line);
        for (int word = 0; word < 2 * BLOCK; word++) {
            const uint32_t stored = bits >> word & 1;
            to[word] = stored ? *value : 0;
            value += stored;
        }
    }
    return value;
}

#if defined(__x86_64__) && defined(__GNUC__)
constexpr int AHEAD = 1024;  // bytes that are fetched before they are asked for

__attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt"))) const uint16_t *by_vectors(
    const uint8_t *mask, const uint16_t *value, int lines, uint16_t *to) {
    for (int line = 0; line < lines; line++, to += 2 * BLOCK) {
        const uint32_t bits = bits_of(mask + 4 * line);
        _mm_prefetch((const char *)value + AHEAD, _MM_HINT_T0);
        _mm512_storeu_si512(to, _mm512_maskz_expand_epi16(bits, _mm512_loadu_si512(value)));
        value += __builtin_popcount(bits);
    }
    return value;
}

bool has_vectors() { return __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512bw"); }
#else
const uint16_t *by_vectors(const uint8_t *, const uint16_t *value, int, uint16_t *) { return value; }
bool has_vectors() { return false; }
#endif

}  // namespace

void Expander::next(int inputs, uint16_t *to) {
    static const bool fast = has_vectors();
    const int lines = inputs / 2;
    value = wide && fast ? by_vectors(mask, value, lines, to) : by_words(mask, value, lines, to);
    mask += 4 * lines;
}
