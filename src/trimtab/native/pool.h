// The process's threads, which stay between calls and meet within one: a token's work is some hundred short phases, and
// starting a thread for each would cost more than the work.

#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

class Pool {
  public:
    // work(context, rank) on at most `wanted` threads, of which rank 0 is the caller's; returns when all are through.
    // Callers take turns.
    void run(int wanted, void (*work)(void *, int), void *context);

    // Within work: how many there are, and all wait until all have come.
    int members() const { return members_; }
    void meet() { meet(members_); }

  private:
    void meet(int members) {
        if (members == 1) return;
        const uint32_t round = round_.load(std::memory_order_relaxed);
        if (came_.fetch_add(1, std::memory_order_acq_rel) == members - 1) {
            came_.store(0, std::memory_order_relaxed);
            round_.store(round + 1, std::memory_order_release);
            return;
        }
        for (int turns = 0; round_.load(std::memory_order_acquire) == round; turns++) rest(turns);
    }

    static void rest(int turns);
    void lent(int rank, int members);
    void grow(int wanted);
    void serve(int rank, uint32_t seen);

    std::vector<std::thread> others_;
    std::mutex turn_, lock_;
    std::condition_variable wake_;
    std::atomic<uint32_t> generation_{0}, round_{0};
    std::atomic<int> left_{0}, came_{0};
    int members_ = 1;
    void (*work_)(void *, int) = nullptr;
    void *context_ = nullptr;
};

// The one of this process; a child of fork gets its own, since threads do not go with it. It lasts as long as the process.
Pool &threads();

struct Part {
    int64_t first, last;
};

inline Part part_of(int64_t total, int rank, int members) {
    return {total * rank / members, total * (rank + 1) / members};
}
