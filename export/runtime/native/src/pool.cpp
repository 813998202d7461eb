// A bnn_pool for callers that have no threads of their own to lend.
#include <algorithm>
#include <atomic>
#include <memory>
#include <string>

#include "bnn.h"
#include "failure.h"
#include "thread_pool.h"

namespace bnn {

namespace {

// What bnn_pool_create hands out: the pool comes first, so that its address is that of the whole.
struct OwnedPool {
  bnn_pool pool{};
  bnn_team team = nullptr;
  std::unique_ptr<ThreadPool> own;  // without a team

  void run(size_t count, void (*task)(void*, size_t), void* context) {
    if (team == nullptr) {
      own->c_pool()->run(own->c_pool()->pool, count, task, context);
      return;
    }
    struct Work {
      size_t count;
      void (*task)(void*, size_t);
      void* context;
      std::atomic<size_t> next{0};
    } work{count, task, context};
    team(
        [](void* given) {
          Work& shared = *static_cast<Work*>(given);
          for (size_t i; (i = shared.next.fetch_add(1)) < shared.count;) shared.task(shared.context, i);
        },
        &work, static_cast<unsigned>(std::min<size_t>(count, static_cast<size_t>(pool.threads))), 0);
  }
};

}  // namespace

}  // namespace bnn

extern "C" {

bnn_status bnn_pool_create(int32_t threads, bnn_team team, bnn_pool** pool) {
  return bnn::guarded("bnn_pool_create", [&] {
    bnn::require(pool != nullptr, [] { return std::string("pool is null"); });
    bnn::require(threads > 0, [&] { return "threads is " + std::to_string(threads) + ", not positive"; });
    auto made = std::make_unique<bnn::OwnedPool>();
    made->team = team;
    if (team == nullptr) made->own = std::make_unique<ThreadPool>(threads);
    made->pool.threads = threads;
    made->pool.pool = made.get();
    made->pool.run = [](void* self, size_t count, void (*task)(void*, size_t), void* context) {
      static_cast<bnn::OwnedPool*>(self)->run(count, task, context);
    };
    *pool = &made.release()->pool;
  });
}

void bnn_pool_destroy(bnn_pool* pool) {
  if (pool != nullptr) delete static_cast<bnn::OwnedPool*>(pool->pool);
}
}
