// A value that one thread at a time may use.
#pragma once

#include <atomic>
#include <stdexcept>
#include <utility>

namespace tinyvox {

struct BusyError : std::runtime_error {
  BusyError()
      : runtime_error("another thread is using this stream; give each thread a stream of its own") {
  }
};

// Not a mutex: the thread that is inside may be the one that tries, as when Python collects garbage
// within a call.
template <typename T>
class Exclusive {
 public:
  template <typename... Arguments>
  explicit Exclusive(Arguments&&... arguments) : value_(std::forward<Arguments>(arguments)...) {}
  Exclusive(const Exclusive&) = delete;
  Exclusive(Exclusive&&) = delete;
  Exclusive& operator=(const Exclusive&) = delete;

  // Returns work(value). Raises BusyError at once if a call is not over.
  template <typename Work>
  auto use(const Work& work) {
    const Turn turn(busy_);
    return work(value_);
  }

 private:
  struct Turn {
    explicit Turn(std::atomic_flag& busy) : busy(busy) {
      if (busy.test_and_set(std::memory_order_acquire)) throw BusyError();
    }
    ~Turn() { busy.clear(std::memory_order_release); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

    std::atomic_flag& busy;
  };

  std::atomic_flag busy_;
  T value_;
};

}  // namespace tinyvox
