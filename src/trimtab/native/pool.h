// Threads that stay between calls and meet within one: a token's work is some hundred short phases, and starting a
// thread for each would cost more than the work.

#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#define RELAX() _mm_pause()
#else
#define RELAX() std::this_thread::yield()
#endif

class Pool {  // rank 0 is the caller's thread
  public:
    explicit Pool(int count) : count_(count < 1 ? 1 : count) {
        try {
            for (int rank = 1; rank < count_; rank++) others_.emplace_back([this, rank] { serve(rank); });
        } catch (...) {  // as many as could be had
            const std::lock_guard<std::mutex> hold(lock_);
            count_ = (int)others_.size() + 1;
        }
    }

    ~Pool() {
        {
            const std::lock_guard<std::mutex> hold(lock_);
            ends_ = true;
            generation_.fetch_add(1);
        }
        wake_.notify_all();
        for (std::thread &one : others_) one.join();
    }

    Pool(const Pool &) = delete;
    Pool &operator=(const Pool &) = delete;

    int count() const { return count_; }

    // work(context, rank) on every thread; returns when all are through.
    void run(void (*work)(void *, int), void *context) {
        work_ = work, context_ = context;
        left_.store(count_ - 1, std::memory_order_relaxed);
        {
            const std::lock_guard<std::mutex> hold(lock_);
            generation_.fetch_add(1, std::memory_order_release);
        }
        if (count_ > 1) wake_.notify_all();
        work(context, 0);
        for (int turns = 0; left_.load(std::memory_order_acquire) > 0; turns++) rest(turns);
    }

    // Within work: all wait until all have come.
    void meet() {
        if (count_ == 1) return;
        const uint32_t round = round_.load(std::memory_order_relaxed);
        if (came_.fetch_add(1, std::memory_order_acq_rel) == count_ - 1) {
            came_.store(0, std::memory_order_relaxed);
            round_.store(round + 1, std::memory_order_release);
            return;
        }
        for (int turns = 0; round_.load(std::memory_order_acquire) == round; turns++) rest(turns);
    }

  private:
    static constexpr int SPINS = 4096;  // some tens of microseconds; a core that another process wants is given up then

    static void rest(int turns) {
        if (turns < SPINS)
            RELAX();
        else
            std::this_thread::yield();
    }

    void serve(int rank) {
        uint32_t seen = 0;
        for (;;) {
            for (int turns = 0; turns < SPINS && generation_.load(std::memory_order_acquire) == seen; turns++) RELAX();
            if (generation_.load(std::memory_order_acquire) == seen) {
                std::unique_lock<std::mutex> hold(lock_);
                wake_.wait(hold, [&] { return generation_.load(std::memory_order_acquire) != seen; });
            }
            seen = generation_.load(std::memory_order_acquire);
            if (ends_) return;
            work_(context_, rank);
            left_.fetch_sub(1, std::memory_order_release);
        }
    }

    int count_;
    std::vector<std::thread> others_;
    std::mutex lock_;
    std::condition_variable wake_;
    std::atomic<uint32_t> generation_{0}, round_{0};
    std::atomic<int> left_{0}, came_{0};
    bool ends_ = false;
    void (*work_)(void *, int) = nullptr;
    void *context_ = nullptr;
};
