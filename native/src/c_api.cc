// The C API: handles around C++ objects. All arguments are checked here, and all exceptions are
// caught here.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <new>
#include <stdexcept>
#include <system_error>

#include "mapped_file.h"
#include "speech.h"
#include "tinyvox.h"

struct tv_model {
  std::shared_ptr<const tinyvox::Model> shared;
};

struct tv_stream {
  enum class State { listening, finished, broken };

  tinyvox::SpeechStream speech;
  State state = State::listening;
};

namespace {

using State = tv_stream::State;

constexpr char finished[] = "the stream is finished; reset it, or open another";
constexpr char broken[] = "the stream ran out of memory and lost audio; reset it, or close it";

// A fixed buffer, so that the error "out of memory" needs no memory.
thread_local char last_message[1024];

// The end of a long path says more than its beginning.
tv_error fail(tv_error error, const char* subject, const char* reason) noexcept {
  constexpr size_t most = 500;
  const size_t length = std::strlen(subject), cut = length > most ? length - most : 0;
  std::snprintf(last_message, sizeof last_message, "%s%s: %s", cut ? "..." : "", subject + cut,
                reason);
  return error;
}

// Called in a catch block: turns the exception into a code and a message.
tv_error caught(const char* subject) noexcept {
  try {
    throw;
  } catch (const tinyvox::FormatError& error) {
    return fail(TV_ERROR_FORMAT, subject, error.what());
  } catch (const std::system_error& error) {
    return fail(TV_ERROR_FILE, subject, error.what());
  } catch (const std::bad_alloc&) {
    return fail(TV_ERROR_MEMORY, subject, "out of memory");
  } catch (const std::length_error&) {  // a vector longer than any memory
    return fail(TV_ERROR_MEMORY, subject, "too large for the memory");
  } catch (const std::runtime_error& error) {  // thrown only by the choice of kernels
    return fail(TV_ERROR_ISA, subject, error.what());
  } catch (const std::exception& error) {
    return fail(TV_ERROR_INTERNAL, subject, error.what());
  } catch (...) {
    return fail(TV_ERROR_INTERNAL, subject, "unknown exception");
  }
}

tv_error open(std::span<const uint8_t> bytes, size_t threads, tv_model** model) {
  *model = new tv_model{tinyvox::open_model(bytes, tinyvox::kernels(), threads)};
  return TV_OK;
}

tv_error open(const char* caller, const char* path, unsigned threads, tv_model** model) {
  if (!model) return fail(TV_ERROR_ARGUMENT, caller, "model is NULL");
  *model = nullptr;
  if (!path) return fail(TV_ERROR_ARGUMENT, caller, "path is NULL");
  if (threads < 1 || threads > tinyvox::max_threads) {
    char reason[64];
    std::snprintf(reason, sizeof reason, "threads are %u, expected 1 to %zu", threads,
                  tinyvox::max_threads);
    return fail(TV_ERROR_ARGUMENT, caller, reason);
  }
  try {
    return open(tinyvox::MappedFile(path).bytes(), threads, model);
  } catch (...) {
    return caught(path);
  }
}

// Does `work`. If it throws, the stream is broken.
template <typename Work>
tv_error change(tv_stream& stream, State after, const char* caller, Work work) {
  stream.state = State::broken;
  try {
    work(stream.speech);
  } catch (...) {
    return caught(caller);
  }
  stream.state = after;
  return TV_OK;
}

// Converts samples to floats in [-1, 1), as Python's streams do, without allocating.
void feed(tinyvox::SpeechStream& speech, std::span<const int16_t> samples) {
  float piece[1024];
  while (!samples.empty()) {
    const auto some = samples.first(std::min(samples.size(), std::size(piece)));
    std::ranges::transform(some, piece, [](int16_t sample) { return sample * 0x1p-15f; });
    speech.feed({piece, some.size()});
    samples = samples.subspan(some.size());
  }
}

// Whether the stream takes samples.
tv_error check_feed(const tv_stream* stream, const void* samples, size_t count,
                    const char* caller) noexcept {
  if (!stream) return fail(TV_ERROR_ARGUMENT, caller, "stream is NULL");
  if (!samples && count) return fail(TV_ERROR_ARGUMENT, caller, "samples is NULL");
  if (stream->state == State::finished) return fail(TV_ERROR_FINISHED, caller, finished);
  if (stream->state == State::broken) return fail(TV_ERROR_BROKEN, caller, broken);
  return TV_OK;
}

}  // namespace

const char* tv_version() { return TV_VERSION; }

const char* tv_error_name(int code) {
  switch (static_cast<tv_error>(code)) {
#define NAME(constant) \
  case constant:       \
    return #constant;
    NAME(TV_OK)
    NAME(TV_ERROR_ARGUMENT)
    NAME(TV_ERROR_FILE)
    NAME(TV_ERROR_FORMAT)
    NAME(TV_ERROR_MEMORY)
    NAME(TV_ERROR_ISA)
    NAME(TV_ERROR_NO_SPEECH)
    NAME(TV_ERROR_FINISHED)
    NAME(TV_ERROR_BROKEN)
    NAME(TV_ERROR_INTERNAL)
#undef NAME
  }
  return "unknown";
}

const char* tv_error_message() { return last_message; }

tv_error tv_open(const char* path, tv_model** model) { return open(__func__, path, 1, model); }

tv_error tv_open_threads(const char* path, unsigned threads, tv_model** model) {
  return open(__func__, path, threads, model);
}

tv_error tv_open_memory(const void* bytes, size_t size, tv_model** model) {
  if (!model) return fail(TV_ERROR_ARGUMENT, __func__, "model is NULL");
  *model = nullptr;
  if (!bytes) return fail(TV_ERROR_ARGUMENT, __func__, "bytes is NULL");
  try {
    return open({static_cast<const uint8_t*>(bytes), size}, 1, model);
  } catch (...) {
    return caught(__func__);
  }
}

void tv_close(tv_model* model) { delete model; }

uint32_t tv_sample_rate(const tv_model* model) {
  const tinyvox::Speech* speech = model ? model->shared->speech() : nullptr;
  return speech ? speech->features.sample_rate : 0;
}

const char* tv_isa(const tv_model* model) { return model ? model->shared->kernels().isa : ""; }

tv_error tv_stream_open(const tv_model* model, tv_stream** stream) {
  if (!stream) return fail(TV_ERROR_ARGUMENT, __func__, "stream is NULL");
  *stream = nullptr;
  if (!model) return fail(TV_ERROR_ARGUMENT, __func__, "model is NULL");
  if (!model->shared->speech())
    return fail(TV_ERROR_NO_SPEECH, __func__, "the model has no speech card, so it gives no text");
  try {
    *stream = new tv_stream{tinyvox::SpeechStream(model->shared)};
    return TV_OK;
  } catch (...) {
    return caught(__func__);
  }
}

tv_error tv_stream_feed(tv_stream* stream, const int16_t* samples, size_t count) {
  if (tv_error error = check_feed(stream, samples, count, __func__)) return error;
  return change(*stream, State::listening, __func__,
                [&](auto& speech) { feed(speech, {samples, count}); });
}

tv_error tv_stream_feed_float(tv_stream* stream, const float* samples, size_t count) {
  if (tv_error error = check_feed(stream, samples, count, __func__)) return error;
  if (!std::all_of(samples, samples + count, [](float sample) { return std::isfinite(sample); }))
    return fail(TV_ERROR_ARGUMENT, __func__, "audio holds NaN or infinity");
  return change(*stream, State::listening, __func__,
                [&](auto& speech) { speech.feed({samples, count}); });
}

tv_error tv_stream_finish(tv_stream* stream) {
  if (!stream) return fail(TV_ERROR_ARGUMENT, __func__, "stream is NULL");
  if (stream->state == State::finished) return TV_OK;
  if (stream->state == State::broken) return fail(TV_ERROR_BROKEN, __func__, broken);
  return change(*stream, State::finished, __func__, [](auto& speech) { speech.finish(); });
}

const char* tv_stream_text(const tv_stream* stream) {
  return stream ? stream->speech.text().c_str() : "";
}

tv_error tv_stream_reset(tv_stream* stream) {
  if (!stream) return fail(TV_ERROR_ARGUMENT, __func__, "stream is NULL");
  return change(*stream, State::listening, __func__, [](auto& speech) { speech.reset(); });
}

void tv_stream_close(tv_stream* stream) { delete stream; }
