// How fast memory is read: what bounds a decoder, whose weights are read once for each word.

#include "pool.h"
#include "portable.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace {

constexpr int LANES = 32;

CLONES uint64_t sum(const uint64_t *from, int64_t count) {
    uint64_t sums[LANES] = {}, all = 0;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
#if defined(__GNUC__)
        __builtin_prefetch(from + i + 512);
#endif
        for (int j = 0; j < LANES; j++) sums[j] += from[i + j];
    }
    for (int j = 0; j < LANES; j++) all += sums[j];
    for (; i < count; i++) all += from[i];
    return all;
}

struct Read {
    const uint64_t *from;
    int64_t count;
    Pool &pool;
    std::atomic<uint64_t> all{0};
};

}  // namespace

// The sum of `count` numbers, each thread's part read by itself.
extern "C" uint64_t trimtab_read(const uint64_t *from, int64_t count, int wanted) {
    Pool &pool = threads();
    Read read{from, count, pool};
    pool.run(wanted, [](void *self, int rank) {
        Read &mine = *(Read *)self;
        const Part part = part_of(mine.count, rank, mine.pool.members());
        mine.all.fetch_add(sum(mine.from + part.first, part.last - part.first));
    }, &read);
    return read.all.load();
}

// Ask for large pages in memory that was not written to; without them it works as well, more slowly.
extern "C" void trimtab_large_pages(void *from, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    (void)madvise(from, (size_t)bytes, MADV_HUGEPAGE);
#else
    (void)from, (void)bytes;
#endif
}
