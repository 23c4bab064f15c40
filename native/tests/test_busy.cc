// Four threads call every function on one stream at once, through the C API, and open streams of
// their own meanwhile. Calls that come while another thread is inside are refused, and the others
// do their work. Built with -fsanitize=thread, it also shows that no two threads touch the same
// memory. Takes a .tvx file with a speech card; exits 0 if all calls ended as they may.
#include <array>
#include <atomic>
#include <cstdio>
#include <thread>
#include <vector>

#include "tinyvox.h"

namespace {

constexpr size_t thread_count = 4, rounds = 300;

struct Counts {
  std::atomic<size_t> done{0}, refused{0}, wrong{0};
};

std::vector<int16_t> noise() {
  std::vector<int16_t> samples(800);
  uint32_t state = 1;
  for (int16_t& sample : samples) {
    state = state * 1664525u + 1013904223u;
    sample = static_cast<int16_t>(state >> 18);
  }
  return samples;
}

tv_error call(tv_stream* stream, size_t which, const std::vector<int16_t>& samples) {
  switch (which % 8) {
    case 5:
      return tv_stream_finish(stream);
    case 6:
      return tv_stream_reset(stream);
    case 7:  // the text itself belongs to whoever feeds the stream next
      return tv_stream_text(stream) ? TV_OK : TV_ERROR_INTERNAL;
    default:
      return tv_stream_feed(stream, samples.data(), samples.size());
  }
}

void hammer(const tv_model* model, tv_stream* shared, size_t thread, Counts& counts) {
  const std::vector<int16_t> samples = noise();
  tv_stream* own = nullptr;
  if (tv_stream_open(model, &own)) ++counts.wrong;
  for (size_t round = 0; round < rounds; ++round) {
    const tv_error error = call(shared, round * (2 * thread + 1), samples);
    if (error == TV_OK || error == TV_ERROR_FINISHED)
      ++counts.done;
    else if (error == TV_ERROR_BUSY)
      ++counts.refused;
    else
      ++counts.wrong;
    if (round % 16 == 0 && tv_stream_feed(own, samples.data(), samples.size())) ++counts.wrong;
  }
  tv_stream_close(own);
}

}  // namespace

int main(int, char** arguments) {
  tv_model* model = nullptr;
  tv_stream* stream = nullptr;
  if (tv_open_threads(arguments[1], 2, &model) || tv_stream_open(model, &stream)) {
    std::fprintf(stderr, "%s\n", tv_error_message());
    return 1;
  }
  Counts counts;
  std::array<std::thread, thread_count> threads;
  for (size_t i = 0; i < thread_count; ++i)
    threads[i] = std::thread(hammer, model, stream, i, std::ref(counts));
  for (std::thread& thread : threads) thread.join();
  const bool works = tv_stream_reset(stream) == TV_OK;
  tv_stream_close(stream);
  tv_close(model);
  std::printf("%zu calls done, %zu refused, %zu wrong\n", counts.done.load(), counts.refused.load(),
              counts.wrong.load());
  return works && counts.wrong == 0 && counts.refused > 0 ? 0 : 1;
}
