// X^T X of many rows of bfloat16 by AMX, sums in float32, the lower triangle alone: the compiled form of
// core/products.py::add_moment.
//
// A tile product takes 16 x 16 pairs on either side: pair (2p, 2p + 1) of rows of X, column j, is one 32-bit word.
// `across` holds these words as (pairs, columns), the right side; `down` the same transposed, 16 x 16 words at a time,
// the left side. Rows are taken CHUNK at a time, so that a panel of 32 columns stays in the nearest cache.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "amx.h"

#ifdef HAS_TILES
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

constexpr int SIDE = 16, PANEL = 2 * SIDE, CHUNK = 512, WORDS = SIDE * SIDE;

AMX void transpose(const uint32_t *from, uint32_t *to) {  // 16 x 16 words, both contiguous
    __m512i r[SIDE], t[SIDE];
    for (int i = 0; i < SIDE; i++) r[i] = _mm512_load_si512(from + i * SIDE);
    for (int i = 0; i < SIDE; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < SIDE; i += 4)
        for (int j = 0; j < 2; j++) {
            r[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + j + 2]);
            r[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + j + 2]);
        }
    for (int half = 0; half < SIDE; half += 8)
        for (int j = 0; j < 4; j++) {
            t[half + j] = _mm512_shuffle_i32x4(r[half + j], r[half + j + 4], 0x88);
            t[half + j + 4] = _mm512_shuffle_i32x4(r[half + j], r[half + j + 4], 0xdd);
        }
    for (int j = 0; j < 8; j++) {
        _mm512_store_si512(to + j * SIDE, _mm512_shuffle_i32x4(t[j], t[j + 8], 0x88));
        _mm512_store_si512(to + (j + 8) * SIDE, _mm512_shuffle_i32x4(t[j], t[j + 8], 0xdd));
    }
}

// Words of rows [0, count) of x, tiles `first` and the next: (2, pairs / 16, 16 x 16); zeros where there are no numbers.
AMX void arrange(const uint16_t *x, int64_t count, int n, int first, int steps, uint32_t *across, uint32_t *down) {
    alignas(64) uint16_t even[SIDE], odd[SIDE];
    for (int tile = 0; tile < 2; tile++) {
        const int from = (first + tile) * SIDE, width = n - from < SIDE ? (n > from ? n - from : 0) : SIDE;
        for (int step = 0; step < steps; step++) {
            uint32_t *to = across + ((size_t)tile * steps + step) * WORDS;
            for (int p = 0; p < SIDE; p++) {
                const int64_t row = 2 * ((int64_t)step * SIDE + p);
                const uint16_t *a = x + row * n + from, *b = a + n;
                if (width < SIDE || row + 1 >= count) {
                    memset(even, 0, sizeof even);
                    memset(odd, 0, sizeof odd);
                    if (row < count) memcpy(even, a, width * sizeof(uint16_t));
                    if (row + 1 < count) memcpy(odd, b, width * sizeof(uint16_t));
                    a = even, b = odd;
                }
                const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)a));
                const __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)b));
                _mm512_store_si512(to + p * SIDE, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
            }
            transpose(to, down + ((size_t)tile * steps + step) * WORDS);
        }
    }
}

// made (32 x 32) = X_i^T X_j over the arranged rows, tiles i, i + 1 by j, j + 1.
AMX inline void multiply(const uint32_t *left, const uint32_t *right, int steps, float *made) {
    const size_t next = (size_t)steps * WORDS;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int step = 0; step < steps; step++, left += WORDS, right += WORDS) {
        _tile_loadd(4, left, 64);
        _tile_loadd(6, right, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, right + next, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, left + next, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, made, PANEL * sizeof(float));
    _tile_stored(1, made + SIDE, PANEL * sizeof(float));
    _tile_stored(2, made + SIDE * PANEL, PANEL * sizeof(float));
    _tile_stored(3, made + SIDE * PANEL + SIDE, PANEL * sizeof(float));
    __asm__ volatile("" ::: "memory");
}

AMX void add(const float *made, int high, int wide, float weight, float *total, int n) {
    const __m512 by = _mm512_set1_ps(weight);
    for (int i = 0; i < high; i++)
        for (int j = 0; j < wide; j += SIDE) {
            const __mmask16 there = wide - j >= SIDE ? 0xffff : (1u << (wide - j)) - 1;
            float *to = total + (size_t)i * n + j;
            const __m512 sum = _mm512_fmadd_ps(by, _mm512_load_ps(made + i * PANEL + j), _mm512_maskz_loadu_ps(there, to));
            _mm512_mask_storeu_ps(to, there, sum);
        }
}

// Threads wait here until all have come, for the time of a chunk at most.
class Meeting {
  public:
    explicit Meeting(int all) : all(all) {}

    void wait() {
        const int mine = round.load();
        if (here.fetch_add(1) + 1 == all) {
            here.store(0);
            round.store(mine + 1);
        } else {
            while (round.load() == mine) std::this_thread::yield();
        }
    }

  private:
    const int all;
    std::atomic<int> here{0}, round{0};
};

struct Job {
    const uint16_t *x;
    int64_t rows;
    int n, panels, parts;
    float weight, *total;
    uint32_t *across, *down;
};

// Part of the arranging and every `parts`th panel of 32 rows of the lower triangle.
AMX void work(const Job &job, int part, Meeting &meeting) {
    alignas(64) float made[PANEL * PANEL];
    const Config config;
    const int n = job.n;
    configure(config);
    for (int64_t start = 0; start < job.rows; start += CHUNK) {
        const int64_t count = job.rows - start < CHUNK ? job.rows - start : CHUNK;
        const int steps = (int)((count + PANEL - 1) / PANEL);
        const size_t panel = (size_t)2 * steps * WORDS;
        for (int i = part; i < job.panels; i += job.parts)
            arrange(job.x + start * n, count, n, 2 * i, steps, job.across + i * panel, job.down + i * panel);
        meeting.wait();
        for (int i = part; i < job.panels; i += job.parts)
            for (int j = 0; j <= i; j++) {
                multiply(job.down + i * panel, job.across + j * panel, steps, made);
                const int high = n - i * PANEL < PANEL ? n - i * PANEL : PANEL;
                const int wide = n - j * PANEL < PANEL ? n - j * PANEL : PANEL;
                add(made, high, wide, job.weight, job.total + (size_t)i * PANEL * n + j * PANEL, n);
            }
        meeting.wait();
    }
    _tile_release();
}

}  // namespace

// Whether the processor has AMX for bfloat16 and the system lets this process use it.
extern "C" int trimtab_amx() {
#ifdef EMULATED_TILES
    return __builtin_cpu_supports("avx512bf16");
#endif
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & d >> 24 & 1)) return 0;
    constexpr int REQUEST = 0x1023, TILES = 18;
    return __builtin_cpu_supports("avx512bw") && !syscall(SYS_arch_prctl, REQUEST, TILES);
}

// total (n, n) += weight X^T X for x (rows, n) bfloat16, its lower triangle (of what is above, the squares of 32 on the
// diagonal). 0 when done, 1 where there is not enough memory, 2 without AMX. See trimtab_amx.
extern "C" int trimtab_moment(const uint16_t *x, int64_t rows, int n, float weight, int threads, float *total) {
    const int panels = (n + PANEL - 1) / PANEL;
    const size_t words = (size_t)panels * 2 * (CHUNK / PANEL) * WORDS;
    std::vector<uint32_t> room;
    std::vector<std::thread> others;
    try {
        room.resize(2 * words + SIDE);
        others.reserve(threads);
    } catch (const std::bad_alloc &) {
        return 1;
    }
    uint32_t *across = (uint32_t *)(((uintptr_t)room.data() + 63) & ~(uintptr_t)63);
    threads = threads < panels ? threads : panels;
    const Job job = {x, rows, n, panels, threads, weight, total, across, across + words};
    Meeting meeting(threads);
    std::atomic<bool> begin(false), called_off(false);
    const auto part = [&](int index) {
        while (!begin.load()) std::this_thread::yield();
        if (!called_off.load()) work(job, index, meeting);
    };
    try {
        for (int index = 1; index < threads; index++) others.emplace_back(part, index);
    } catch (const std::system_error &) {  // no more threads: this one does it all
        called_off = true;
    }
    begin = true;
    if (!called_off) {
        part(0);
    }
    for (auto &other : others) other.join();
    if (called_off) {
        Meeting alone(1);
        work({x, rows, n, panels, 1, weight, total, across, across + words}, 0, alone);
    }
    return 0;
}
#else
extern "C" int trimtab_amx() { return 0; }
extern "C" int trimtab_moment(const uint16_t *, int64_t, int, float, int, float *) { return 2; }
#endif
