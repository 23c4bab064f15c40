// Threads that share the work of one matrix product. They sleep when there is no work.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace tinyvox {

inline constexpr size_t max_threads = 64;

class Threads {
 public:
  // `count` threads with the caller's; fewer if the system cannot start so many.
  explicit Threads(size_t count);
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  size_t count() const { return workers_.size() + 1; }

  // Calls task(first, last) for parts of [0, items), one part for each thread; the sizes of all
  // parts but the last are multiples of `grain`. All of it runs on the caller's thread if there are
  // too few products to be worth sharing, or if the other threads work for another caller. Tasks do
  // not throw.
  template <typename Task>
  void share(size_t items, size_t grain, size_t products, const Task& task) {
    const size_t grains = (items + grain - 1) / grain;
    if (workers_.empty() || grains < 2 || products < worth_sharing || forked())
      return task(0, items);
    const std::unique_lock mine(busy_, std::try_to_lock);
    if (!mine.owns_lock()) return task(0, items);
    const size_t parts = count();
    const auto some = [&](size_t part) {
      const size_t first = std::min(grains * part / parts * grain, items);
      const size_t last = std::min(grains * (part + 1) / parts * grain, items);
      if (first < last) task(first, last);
    };
    run({[](const void* context, size_t part) {
           (*static_cast<const decltype(some)*>(context))(part);
         },
         &some});
  }

 private:
  static constexpr size_t worth_sharing = size_t{1} << 18;

  struct Job {
    void (*call)(const void* context, size_t part);
    const void* context;
  };

  bool forked() const;  // a forked process does not have the worker threads
  void run(Job job);
  void work(size_t part);

  std::mutex busy_;
  Job job_{};
  std::atomic<uint32_t> jobs_{0};  // number of jobs so far; a new number starts a job
  std::atomic<size_t> left_{0};    // parts not finished
  std::atomic<bool> over_{false};
  const int owner_;  // process id
  std::vector<std::thread> workers_;
};

}  // namespace tinyvox
