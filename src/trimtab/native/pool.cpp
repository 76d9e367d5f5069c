#include "pool.h"

#include <system_error>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#define RELAX() _mm_pause()
#else
#define RELAX() std::this_thread::yield()
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#define PROCESS() ((long)getpid())
#else
#define PROCESS() 0L
#endif

namespace {

constexpr int SPINS = 4096;  // some tens of microseconds; a core that another process wants is given up then

std::mutex choosing;
Pool *pool = nullptr;
long owner = -1;

struct Lender {  // another library's threads, as OpenMP has them
    void (*parallel)(void (*)(void *), void *, unsigned, unsigned);
    int (*rank)(), (*count)();
    long owner;
};
std::atomic<const Lender *> lender{nullptr};

}  // namespace

// From now on work is done by these: threads of two libraries that wait for work hinder each other where there are no more
// cores. A child of fork has ours, since OpenMP's do not go with it either.
extern "C" void trimtab_lend_threads(void (*parallel)(void (*)(void *), void *, unsigned, unsigned), int (*rank)(),
                                     int (*count)()) {
    lender.store(new Lender{parallel, rank, count, PROCESS()});
}

Pool &threads() {
    const std::lock_guard<std::mutex> hold(choosing);
    if (owner != PROCESS()) pool = new Pool, owner = PROCESS();
    return *pool;
}

void Pool::rest(int turns) {
    if (turns < SPINS)
        RELAX();
    else
        std::this_thread::yield();
}

void Pool::grow(int wanted) {  // to as many as can be had
    try {
        while ((int)others_.size() + 1 < wanted) {
            const int rank = (int)others_.size() + 1;
            others_.emplace_back([this, rank, seen = generation_.load()] { serve(rank, seen); });
        }
    } catch (const std::system_error &) {
    } catch (const std::bad_alloc &) {
    }
}

void Pool::run(int wanted, void (*work)(void *, int), void *context) {
    const std::lock_guard<std::mutex> mine(turn_);
    const Lender *from = lender.load();
    if (from && wanted > 1 && from->owner == PROCESS()) {
        work_ = work, context_ = context;
        from->parallel([](void *self) { ((Pool *)self)->lent(lender.load()->rank(), lender.load()->count()); }, this, wanted, 0);
        return;
    }
    grow(wanted);
    const int all = (int)others_.size() + 1;
    members_ = wanted < 1 ? 1 : wanted < all ? wanted : all;
    if (members_ == 1) {
        work(context, 0);
        return;
    }
    work_ = work, context_ = context;
    left_.store(all - 1, std::memory_order_relaxed);
    {
        const std::lock_guard<std::mutex> hold(lock_);
        generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    work(context, 0);
    for (int turns = 0; left_.load(std::memory_order_acquire) > 0; turns++) rest(turns);
}

void Pool::lent(int rank, int members) {
    if (rank == 0) members_ = members;
    meet(members);  // before which nobody else looks at it
    work_(context_, rank);
}

void Pool::serve(int rank, uint32_t seen) {
    for (;;) {
        for (int turns = 0; turns < SPINS && generation_.load(std::memory_order_acquire) == seen; turns++) RELAX();
        if (generation_.load(std::memory_order_acquire) == seen) {
            std::unique_lock<std::mutex> hold(lock_);
            wake_.wait(hold, [&] { return generation_.load(std::memory_order_acquire) != seen; });
        }
        seen = generation_.load(std::memory_order_acquire);
        if (rank < members_) work_(context_, rank);
        left_.fetch_sub(1, std::memory_order_release);
    }
}
