// Spreading independent tasks over the caller's threads.
#ifndef BNN_PARALLEL_H
#define BNN_PARALLEL_H

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "bnn.h"

namespace bnn {

inline int64_t threads_of(const bnn_pool* pool) {
  return pool != nullptr && pool->run != nullptr ? std::max<int64_t>(pool->threads, 1) : 1;
}

// How many tasks keep that many threads busy to the end when they claim tasks one by one.
inline int64_t wanted_tasks(const bnn_pool* pool) {
  const int64_t threads = threads_of(pool);
  return threads > 1 ? 4 * threads : 1;
}

// Calls task(i) for every i < count. A task must not throw: it may run in a thread that is not ours.
template <typename Task>
void parallel(const bnn_pool* pool, int64_t count, const Task& task) {
  if (threads_of(pool) == 1 || count <= 1) {
    for (int64_t i = 0; i < count; ++i) task(i);
    return;
  }
  auto call = [](void* context, size_t i) { (*static_cast<const Task*>(context))(static_cast<int64_t>(i)); };
  pool->run(pool->pool, static_cast<size_t>(count), call, const_cast<Task*>(&task));
}

// Cuts `total` items into at most wanted_tasks ranges of at least `least` items; calls task(begin, end).
template <typename Task>
void parallel_ranges(const bnn_pool* pool, int64_t total, int64_t least, const Task& task) {
  const int64_t parts = std::min(wanted_tasks(pool), std::max<int64_t>(total / std::max<int64_t>(least, 1), 1));
  const int64_t share = total / parts, rest = total % parts;
  parallel(pool, parts, [&](int64_t i) {
    const int64_t begin = i * share + std::min(i, rest);
    task(begin, begin + share + (i < rest));
  });
}

}  // namespace bnn

#endif
