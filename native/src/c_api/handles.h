// What the handles of the C API point to, and how its functions check arguments and say what
// failed.
#pragma once

#include <memory>
#include <string>

#include "exclusive.h"
#include "speech.h"
#include "tinyvox.h"

struct tv_model {
  std::shared_ptr<const tinyvox::Model> shared;
};

namespace tinyvox::c_api {

enum class State { listening, finished, broken };

struct Utterance {
  Utterance(const std::shared_ptr<const Model>& model, const BeamSearch* search)
      : speech(model, search) {}

  SpeechStream speech;
  State state = State::listening;
};

}  // namespace tinyvox::c_api

struct tv_stream : tinyvox::Exclusive<tinyvox::c_api::Utterance> {
  using Exclusive::Exclusive;
};

struct tv_search {
  tinyvox::VocabularyOptions options;
  tinyvox::BeamSearch search;

  // Takes hot words, which may always be said.
  void set_hot_words(std::vector<tinyvox::HotWord> words);
};

namespace tinyvox::c_api {

// Sets the message of the calling thread: the subject, which is a path or the name of a function,
// and the reason. Returns `error`.
tv_error fail(tv_error error, const char* subject, const char* reason) noexcept;

// Called in a catch block: turns the exception into a code and a message.
tv_error caught(const char* subject) noexcept;

// Returns work(), or the code of the exception that it throws.
template <typename Work>
tv_error attempt(const char* subject, const Work& work) {
  try {
    return work();
  } catch (...) {
    return caught(subject);
  }
}

// Does `work` on the stream of the calling thread, which says what went wrong.
template <typename Work>
tv_error use(tv_stream* stream, const char* caller, const Work& work) {
  if (!stream) return fail(TV_ERROR_ARGUMENT, caller, "stream is NULL");
  return attempt(caller, [&] { return stream->use(work); });
}

tv_error check_not_broken(const Utterance& utterance, const char* caller);

// The speech card of a model; null, and `error` set, where there is none.
const Speech* speech_of(const tv_model* model, const char* caller, tv_error& error);

tv_error open_stream(const char* caller, const tv_model* model, const tv_search* search,
                     tv_stream** stream);

// A struct of settings whose first field is its size in the version that the caller knows.
// `known` has the defaults: what the caller's version does not have stays as it is, and what this
// library does not know must be 0.
tv_error read_settings(const char* caller, const void* given, void* known, size_t known_size);

template <typename Settings>
tv_error read_settings(const char* caller, const Settings* given, Settings& known) {
  return given ? read_settings(caller, given, &known, sizeof known) : TV_OK;
}

// Fills the caller's `size` bytes with the defaults, and sets the first field.
void give_defaults(void* settings, uint64_t size, const void* defaults, size_t known_size);

}  // namespace tinyvox::c_api
