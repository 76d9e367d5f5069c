// RMS norm of rows: the compiled form of core/norm.py::Form, in one pass where eager operations take six.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "portable.h"
#include "threads.h"

namespace {

constexpr int LANES = 64;  // sums side by side, so that they are vectors

template <typename T> INLINE void normalize(const T *x, const float *weight, size_t rows, int n, float eps, int early, T *out) {
    for (size_t row = 0; row < rows; row++, x += n, out += n) {
        float sums[LANES] = {}, sum = 0.0f;
        int i = 0;
        for (; i + LANES <= n; i += LANES)
            for (int j = 0; j < LANES; j++) sums[j] += wide(x[i + j]) * wide(x[i + j]);
        for (int j = 0; j < LANES; j++) sum += sums[j];
        for (; i < n; i++) sum += wide(x[i]) * wide(x[i]);
        const float scale = 1.0f / std::sqrt(sum / (float)n + eps);
        for (int j = 0; j < n; j++) {
            float y = wide(x[j]) * scale;
            if (early) {
                T rounded;
                narrow(y, &rounded);
                y = wide(rounded);
            }
            narrow(y * weight[j], out + j);
        }
    }
}

CLONES void of_floats(const float *x, const float *weight, size_t rows, int n, float eps, int early, float *out) {
    normalize(x, weight, rows, n, eps, early, out);
}

CLONES void of_bfloat16s(const uint16_t *x, const float *weight, size_t rows, int n, float eps, int early, uint16_t *out) {
    normalize(x, weight, rows, n, eps, early, out);
}

}  // namespace

// out = x / sqrt(mean(x^2) + eps) * weight for each row of x (rows, n), float32 or bfloat16; `early`: rounded to that
// dtype before the product too. 0 when done, 1 for another dtype.
extern "C" int trimtab_rms_norm(const void *x, const float *weight, int64_t rows, int n, float eps, int early, int stored,
                                int threads, void *out) {
    if (stored != FLOAT32 && stored != BFLOAT16) return 1;
    in_parts(rows, threads, [=](int64_t start, int64_t stop) {
        const size_t count = (size_t)(stop - start), at = (size_t)start * n;
        if (stored == FLOAT32)
            of_floats((const float *)x + at, weight, count, n, eps, early, (float *)out + at);
        else
            of_bfloat16s((const uint16_t *)x + at, weight, count, n, eps, early, (uint16_t *)out + at);
    });
    return 0;
}
