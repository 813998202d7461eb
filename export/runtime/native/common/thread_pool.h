// A small thread pool behind bnn_pool, for the example, the benchmark and the tests. Tasks are claimed one by one, and
// the caller waits only for tasks that a worker has begun: a worker that gets no time from the system holds up nothing.
#ifndef BNN_THREAD_POOL_H
#define BNN_THREAD_POOL_H

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <thread>
#include <vector>

#include "bnn.h"

class ThreadPool {
 public:
  explicit ThreadPool(int threads) : pool_{&ThreadPool::run, this, threads} {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
  }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }
  const bnn_pool* c_pool() const { return &pool_; }

 private:
  struct Job {
    size_t count;
    void (*task)(void*, size_t);
    void* context;
    std::atomic<size_t> next{0};
    int helpers = 0;  // workers inside, guarded by mutex_
    void help() {
      for (size_t i; (i = next.fetch_add(1)) < count;) task(context, i);
    }
  };

  static void run(void* self, size_t count, void (*task)(void*, size_t), void* context) {
    static_cast<ThreadPool*>(self)->run_job(count, task, context);
  }

  void run_job(size_t count, void (*task)(void*, size_t), void* context) {
    Job job{count, task, context};
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      job_ = &job;
    }
    wake_.notify_all();
    job.help();
    std::unique_lock<std::mutex> lock(mutex_);
    job_ = nullptr;  // from here on no worker enters
    done_.wait(lock, [&] { return job.helpers == 0; });
  }

  void work() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return stop_ || (job_ != nullptr && job_->next.load() < job_->count); });
      if (stop_) return;
      Job& job = *job_;
      ++job.helpers;
      lock.unlock();
      job.help();
      lock.lock();
      if (--job.helpers == 0) done_.notify_all();
    }
  }

  bnn_pool pool_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  Job* job_ = nullptr;
  bool stop_ = false;
  std::vector<std::thread> workers_;
};

#endif
