// The C API: handles around C++ objects. All arguments are checked here, and all exceptions are
// caught here.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <new>
#include <stdexcept>
#include <system_error>

#include "budget.h"
#include "exclusive.h"
#include "mapped_file.h"
#include "open.h"
#include "speech.h"
#include "tinyvox.h"

struct tv_model {
  std::shared_ptr<const tinyvox::Model> shared;
};

namespace {

enum class State { listening, finished, broken };

struct Utterance {
  explicit Utterance(const std::shared_ptr<const tinyvox::Model>& model) : speech(model) {}

  tinyvox::SpeechStream speech;
  State state = State::listening;
};

}  // namespace

struct tv_stream : tinyvox::Exclusive<Utterance> {
  using Exclusive::Exclusive;
};

namespace {

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
  } catch (const tinyvox::BusyError& error) {
    return fail(TV_ERROR_BUSY, subject, error.what());
  } catch (const tinyvox::LimitError& error) {
    return fail(TV_ERROR_LIMIT, subject, error.what());
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

tv_error check_threads(const char* caller, unsigned threads) {
  if (threads >= 1 && threads <= tinyvox::max_threads) return TV_OK;
  char reason[64];
  std::snprintf(reason, sizeof reason, "threads are %u, expected 1 to %zu", threads,
                tinyvox::max_threads);
  return fail(TV_ERROR_ARGUMENT, caller, reason);
}

// `source` is what the caller opens, called `name`; `read` gives its bytes, and may throw. Errors
// of the content name `subject`.
template <typename Read>
tv_error open(const char* caller, const void* source, const char* name, const char* subject,
              Read read, const tinyvox::OpenOptions& options, tv_model** model) {
  if (!model) return fail(TV_ERROR_ARGUMENT, caller, "model is NULL");
  *model = nullptr;
  if (!source) return fail(TV_ERROR_ARGUMENT, caller, name);
  if (const tv_error error = check_threads(caller, static_cast<unsigned>(options.threads)))
    return error;
  try {
    const auto& content = read();
    *model = new tv_model{tinyvox::open_model(content.bytes(), tinyvox::kernels(), options)};
    return TV_OK;
  } catch (...) {
    return caught(subject);
  }
}

tv_error open_path(const char* caller, const char* path, const tinyvox::OpenOptions& options,
                   tv_model** model) {
  return open(
      caller, path, "path is NULL", path, [&] { return tinyvox::MappedFile(path); }, options,
      model);
}

struct InMemory {
  std::span<const uint8_t> content;

  std::span<const uint8_t> bytes() const { return content; }
};

tv_error open_bytes(const char* caller, const void* bytes, size_t size,
                    const tinyvox::OpenOptions& options, tv_model** model) {
  const InMemory content{{static_cast<const uint8_t*>(bytes), size}};
  return open(caller, bytes, "bytes is NULL", caller, [&] { return content; }, options, model);
}

// Does `work` on the stream of the calling thread, which says what went wrong.
template <typename Work>
tv_error use(tv_stream* stream, const char* caller, const Work& work) {
  if (!stream) return fail(TV_ERROR_ARGUMENT, caller, "stream is NULL");
  try {
    return stream->use(work);
  } catch (...) {
    return caught(caller);
  }
}

// If `work` throws, the stream is broken.
template <typename Work>
tv_error change(Utterance& utterance, State after, const Work& work) {
  utterance.state = State::broken;
  work(utterance.speech);
  utterance.state = after;
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

}  // namespace

const char* tv_version() { return TV_VERSION; }

const char* tv_error_name(int code) {
  switch (code) {
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
    NAME(TV_ERROR_BUSY)
    NAME(TV_ERROR_LIMIT)
#undef NAME
  }
  return "unknown";
}

const char* tv_error_message() { return last_message; }

tv_error tv_open(const char* path, tv_model** model) {
  return open_path(__func__, path, {}, model);
}

tv_error tv_open_threads(const char* path, unsigned threads, tv_model** model) {
  return open_path(__func__, path, {threads}, model);
}

tv_error tv_open_limited(const char* path, unsigned threads, uint64_t max_memory,
                         tv_model** model) {
  return open_path(__func__, path, {threads, max_memory}, model);
}

tv_error tv_open_memory(const void* bytes, size_t size, tv_model** model) {
  return open_bytes(__func__, bytes, size, {}, model);
}

tv_error tv_open_memory_limited(const void* bytes, size_t size, unsigned threads,
                                uint64_t max_memory, tv_model** model) {
  return open_bytes(__func__, bytes, size, {threads, max_memory}, model);
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
    *stream = new tv_stream(model->shared);
    return TV_OK;
  } catch (...) {
    return caught(__func__);
  }
}

tv_error tv_stream_feed(tv_stream* stream, const int16_t* samples, size_t count) {
  if (stream && !samples && count) return fail(TV_ERROR_ARGUMENT, __func__, "samples is NULL");
  const char* caller = __func__;
  return use(stream, caller, [&](Utterance& utterance) {
    if (utterance.state == State::finished) return fail(TV_ERROR_FINISHED, caller, finished);
    if (utterance.state == State::broken) return fail(TV_ERROR_BROKEN, caller, broken);
    return change(utterance, State::listening,
                  [&](auto& speech) { feed(speech, {samples, count}); });
  });
}

tv_error tv_stream_finish(tv_stream* stream) {
  const char* caller = __func__;
  return use(stream, caller, [&](Utterance& utterance) {
    if (utterance.state == State::finished) return TV_OK;
    if (utterance.state == State::broken) return fail(TV_ERROR_BROKEN, caller, broken);
    return change(utterance, State::finished, [](auto& speech) { speech.finish(); });
  });
}

const char* tv_stream_text(tv_stream* stream) {
  const char* text = "";
  if (stream)
    use(stream, __func__, [&](Utterance& utterance) {
      text = utterance.speech.text().c_str();
      return TV_OK;
    });
  return text;
}

tv_error tv_stream_reset(tv_stream* stream) {
  return use(stream, __func__, [](Utterance& utterance) {
    return change(utterance, State::listening, [](auto& speech) { speech.reset(); });
  });
}

void tv_stream_close(tv_stream* stream) { delete stream; }
