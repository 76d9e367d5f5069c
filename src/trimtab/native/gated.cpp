// gate = act(gate) * up, number by number and in place: the compiled form of core/gated.py, in one pass where eager
// operations write two matrices more.

#include <cstddef>
#include <cstdint>

#include "curves.h"
#include "threads.h"

namespace {

template <typename T> INLINE void combine(T *gate, const T *up, size_t count, int kind) {
    for (size_t i = 0; i < count; i++) {
        T early;
        narrow(activated(wide(gate[i]), kind), &early);
        narrow(wide(early) * wide(up[i]), gate + i);
    }
}

CLONES void silu_floats(float *gate, const float *up, size_t count) { combine(gate, up, count, SILU); }
CLONES void gelu_floats(float *gate, const float *up, size_t count) { combine(gate, up, count, GELU_TANH); }
CLONES void silu_bfloat16s(uint16_t *gate, const uint16_t *up, size_t count) { combine(gate, up, count, SILU); }
CLONES void gelu_bfloat16s(uint16_t *gate, const uint16_t *up, size_t count) { combine(gate, up, count, GELU_TANH); }

}  // namespace

// gate (count) = act(gate) * up, float32 or bfloat16, act rounded to that dtype before the product. 0 when done, 1 for
// another dtype or kind.
extern "C" int trimtab_gated(void *gate, const void *up, int64_t count, int kind, int stored, int threads) {
    if ((stored != FLOAT32 && stored != BFLOAT16) || (kind != SILU && kind != GELU_TANH)) return 1;
    in_parts(count, threads, [=](int64_t start, int64_t stop) {
        const size_t size = (size_t)(stop - start);
        if (stored == FLOAT32)
            (kind == SILU ? silu_floats : gelu_floats)((float *)gate + start, (const float *)up + start, size);
        else
            (kind == SILU ? silu_bfloat16s : gelu_bfloat16s)((uint16_t *)gate + start, (const uint16_t *)up + start, size);
    });
    return 0;
}
