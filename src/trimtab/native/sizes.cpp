// The sums of |x| and x^2 and the largest |x| down each column of a matrix: the compiled form of
// core/native.py::add_sizes.

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "portable.h"

namespace {

template <typename T>
INLINE void grow_sizes(const T *x, size_t rows, int n, float *sum, float *square, float *largest) {
    for (size_t row = 0; row < rows; row++, x += n)
        for (int i = 0; i < n; i++) {
            const float size = __builtin_fabsf(wide(x[i]));
            sum[i] += size;
            square[i] += size * size;
            largest[i] = size > largest[i] || size != size ? size : largest[i];
        }
}

CLONES void sizes_of_floats(const float *x, size_t rows, int n, float *sum, float *square, float *largest) {
    grow_sizes(x, rows, n, sum, square, largest);
}

CLONES void sizes_of_bfloat16s(const uint16_t *x, size_t rows, int n, float *sum, float *square, float *largest) {
    grow_sizes(x, rows, n, sum, square, largest);
}

}  // namespace

// Of x (rows, n), float32 or bfloat16: the sums of |x| and of x^2 of each column added to `sum` and `square`, the
// largest |x| raised in `largest`, NaN once one was NaN. 0 when done, 1 for another dtype.
extern "C" int trimtab_sizes(const void *x, int64_t rows, int n, int stored, float *sum, float *square,
                             float *largest) {
    if (stored == FLOAT32)
        sizes_of_floats((const float *)x, (size_t)rows, n, sum, square, largest);
    else if (stored == BFLOAT16)
        sizes_of_bfloat16s((const uint16_t *)x, (size_t)rows, n, sum, square, largest);
    else
        return 1;
    return 0;
}

