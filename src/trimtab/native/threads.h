// Work on a range in parts, each part on a thread of its own.

#pragma once

#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

// work(start, stop) over [0, count) in `threads` parts; parts for which no thread can be had are done by this one.
template <typename Work> void in_parts(int64_t count, int threads, Work work) {
    std::vector<std::thread> others;
    const int64_t parts = threads < 1 ? 1 : threads;
    int64_t done = count / parts;
    try {
        for (int64_t part = 1; part < parts; part++) {
            others.emplace_back(work, count * part / parts, count * (part + 1) / parts);
            done = count * (part + 1) / parts;
        }
        done = count;
    } catch (const std::system_error &) {
    } catch (const std::bad_alloc &) {
    }
    work(0, count / parts);
    if (done < count) work(done, count);
    for (std::thread &one : others) one.join();
}
