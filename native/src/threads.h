// Threads that share the work of one matrix. They cost nothing while nobody asks for them.
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
  // `count` in all, the caller's included; fewer where the system has no room for them.
  explicit Threads(size_t count);
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  size_t count() const { return workers_.size() + 1; }

  // task(first, last) over [0, items) in as many parts as there are threads, each a multiple of
  // `grain` but the last. All of it on the caller's thread where so few products are not worth a
  // hand-over, and where the others work for somebody else. Tasks do not throw.
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

  bool forked() const;  // a child process has none of the workers
  void run(Job job);
  void work(size_t part);

  std::mutex busy_;
  Job job_{};
  std::atomic<uint32_t> jobs_{0};  // how many there were; its change starts one
  std::atomic<size_t> left_{0};    // parts under way
  std::atomic<bool> over_{false};
  const int owner_;  // process
  std::vector<std::thread> workers_;
};

}  // namespace tinyvox
