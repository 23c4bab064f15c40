#include "threads.h"

#include <exception>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace tinyvox {
namespace {

// How often a thread checks for its next job before it goes to sleep: some tens of microseconds,
// because the jobs of one frame follow each other closely.
constexpr int looks = 1000;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int process() {
#if defined(__unix__) || defined(__APPLE__)
  return getpid();
#else
  return 0;
#endif
}

}  // namespace

Threads::Threads(size_t count) : owner_(process()) {
  workers_.reserve(count - 1);
  try {
    for (size_t part = 1; part < count; ++part) workers_.emplace_back([this, part] { work(part); });
  } catch (const std::exception&) {
    // The system cannot start more. Fewer threads give the same result.
  }
}

Threads::~Threads() {
  if (forked()) {
    for (std::thread& worker : workers_) worker.detach();
    return;
  }
  over_ = true;
  jobs_.fetch_add(1);
  jobs_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

bool Threads::forked() const { return owner_ != process(); }

void Threads::run(Job job) {
  job_ = job;
  left_ = workers_.size();
  jobs_.fetch_add(1);
  jobs_.notify_all();
  job.call(job.context, 0);
  for (int look = 0; left_ > 0; ++look) look < looks ? pause() : std::this_thread::yield();
}

void Threads::work(size_t part) {
  for (uint32_t seen = 0;; ++seen) {
    for (int look = 0; look < looks && jobs_ == seen; ++look) pause();
    jobs_.wait(seen);
    if (over_) return;
    job_.call(job_.context, part);
    left_.fetch_sub(1);
  }
}

}  // namespace tinyvox
