// The C API: handles around C++ objects. All arguments are checked here, and all exceptions are
// caught here.
#include <algorithm>
#include <cmath>
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
  Utterance(const std::shared_ptr<const tinyvox::Model>& model, const tinyvox::BeamSearch* search)
      : speech(model, search) {}

  tinyvox::SpeechStream speech;
  State state = State::listening;
};

}  // namespace

struct tv_stream : tinyvox::Exclusive<Utterance> {
  using Exclusive::Exclusive;
};

struct tv_search {
  tinyvox::VocabularyOptions options;
  tinyvox::BeamSearch search;

  // Takes hot words, which may always be said.
  void set_hot_words(std::vector<tinyvox::HotWord> words);
};

namespace {

// The texts and tokens that a result points to.
struct Result : tv_result {
  std::vector<std::string> texts;
  std::vector<std::vector<tv_token>> tokens;
  std::vector<tv_transcript> all;
  std::shared_ptr<const tinyvox::Vocabulary> vocabulary;  // has the texts of tokens
};

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
  } catch (const std::invalid_argument& error) {
    return fail(TV_ERROR_ARGUMENT, subject, error.what());
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
    std::transform(some.begin(), some.end(), piece,
                   [](int16_t sample) { return sample * 0x1p-15f; });
    speech.feed({piece, some.size()});
    samples = samples.subspan(some.size());
  }
}

// Checks samples, and does `work` with a stream that takes some.
template <typename Sample, typename Work>
tv_error listen(tv_stream* stream, const Sample* samples, size_t count, const char* caller,
                const Work& work) {
  if (stream && !samples && count) return fail(TV_ERROR_ARGUMENT, caller, "samples is NULL");
  return use(stream, caller, [&](Utterance& utterance) {
    if (utterance.state == State::finished) return fail(TV_ERROR_FINISHED, caller, finished);
    if (utterance.state == State::broken) return fail(TV_ERROR_BROKEN, caller, broken);
    if (!std::all_of(samples, samples + count, [](Sample each) { return std::isfinite(each); }))
      return fail(TV_ERROR_ARGUMENT, caller, "audio holds NaN or infinity");
    return change(utterance, State::listening, work);
  });
}

tv_error open_stream(const char* caller, const tv_model* model, const tv_search* search,
                     tv_stream** stream) {
  if (!stream) return fail(TV_ERROR_ARGUMENT, caller, "stream is NULL");
  *stream = nullptr;
  if (!model) return fail(TV_ERROR_ARGUMENT, caller, "model is NULL");
  if (!model->shared->speech())
    return fail(TV_ERROR_NO_SPEECH, caller, "the model has no speech card, so it gives no text");
  try {
    *stream = new tv_stream(model->shared, search ? &search->search : nullptr);
    return TV_OK;
  } catch (...) {
    return caught(caller);
  }
}

std::unique_ptr<tv_search> make_search(const tinyvox::Alphabet& alphabet,
                                       const tv_search_options& options) {
  std::shared_ptr<const tinyvox::NgramModel> model;
  if (options.language_model)
    model = std::make_shared<const tinyvox::NgramModel>(options.language_model);
  auto made = std::make_unique<tv_search>();
  made->options.closed = !options.open_vocabulary;
  const float beta = model ? options.beta : 0;  // without one there are no words
  made->search = {tinyvox::make_vocabulary(alphabet, model, made->options),
                  {.beam = options.beam, .alpha = options.alpha, .beta = beta, .hot_words = {}}};
  const tinyvox::BeamDecoder checked(made->search);
  return made;
}

// Replaces hot words by those that `change` makes of them.
template <typename Change>
tv_error change_hot_words(const char* caller, tv_search* search, const char* word,
                          const Change& change) {
  if (!search) return fail(TV_ERROR_ARGUMENT, caller, "search is NULL");
  if (!word) return fail(TV_ERROR_ARGUMENT, caller, "word is NULL");
  try {
    std::vector<tinyvox::HotWord> words = search->search.settings.hot_words;
    const size_t same = std::erase_if(words, [&](const auto& each) { return each.text == word; });
    if (const tv_error error = change(words, same)) return error;
    search->set_hot_words(std::move(words));
    return TV_OK;
  } catch (...) {
    return caught(caller);
  }
}

std::unique_ptr<Result> make_result(const tinyvox::SpeechStream& speech, size_t count) {
  const tinyvox::BeamDecoder& beam = *speech.beam();
  auto result = std::make_unique<Result>();
  result->vocabulary = beam.shared_vocabulary();
  const std::vector<tinyvox::Transcript> found = speech.best(count);
  for (const tinyvox::Transcript& each : found) {
    result->texts.push_back(beam.text(each));
    auto& tokens = result->tokens.emplace_back();
    for (size_t i = 0; i < each.tokens.size(); ++i)
      tokens.push_back({result->vocabulary->alphabet.text(each.tokens[i]).c_str(), each.frames[i],
                        static_cast<double>(each.frames[i]) * speech.seconds_a_frame()});
  }
  for (size_t i = 0; i < found.size(); ++i)
    result->all.push_back({result->texts[i].c_str(), result->tokens[i].data(),
                           result->tokens[i].size(), found[i].score});
  result->transcripts = result->all.data();
  result->count = result->all.size();
  return result;
}

char* copy_of(const std::string& text) {
  char* copy = new char[text.size() + 1];
  std::memcpy(copy, text.c_str(), text.size() + 1);
  return copy;
}

}  // namespace

void tv_search::set_hot_words(std::vector<tinyvox::HotWord> words) {
  tinyvox::BeamSearch changed = search;
  changed.settings.hot_words = std::move(words);
  const tinyvox::Vocabulary& known = *search.vocabulary;
  tinyvox::VocabularyOptions wanted = options;
  for (const tinyvox::HotWord& hot : changed.settings.hot_words)
    for (size_t at = 0; at < hot.text.size();) {
      const size_t end = std::min(hot.text.find(' ', at), hot.text.size());
      if (end > at) wanted.more.push_back(hot.text.substr(at, end - at));
      at = end + 1;
    }
  if (known.model) changed.vocabulary = make_vocabulary(known.alphabet, known.model, wanted);
  const tinyvox::BeamDecoder checked(changed);
  search = std::move(changed);
}

const char* tv_version() { return TV_VERSION; }

uint32_t tv_version_number() { return TV_VERSION_NUMBER; }

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
  return open_stream(__func__, model, nullptr, stream);
}

tv_error tv_stream_open_search(const tv_model* model, const tv_search* search, tv_stream** stream) {
  return open_stream(__func__, model, search, stream);
}

tv_error tv_stream_feed(tv_stream* stream, const int16_t* samples, size_t count) {
  return listen(stream, samples, count, __func__,
                [&](auto& speech) { feed(speech, {samples, count}); });
}

tv_error tv_stream_feed_float(tv_stream* stream, const float* samples, size_t count) {
  return listen(stream, samples, count, __func__,
                [&](auto& speech) { speech.feed({samples, count}); });
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

void tv_search_defaults(tv_search_options* options) {
  if (options) *options = {nullptr, 0.93f, 1.18f, 100, 0};
}

tv_error tv_search_open(const tv_model* model, const tv_search_options* options,
                        tv_search** search) {
  if (!search) return fail(TV_ERROR_ARGUMENT, __func__, "search is NULL");
  *search = nullptr;
  if (!model) return fail(TV_ERROR_ARGUMENT, __func__, "model is NULL");
  const tinyvox::Speech* const speech = model->shared->speech();
  if (!speech)
    return fail(TV_ERROR_NO_SPEECH, __func__, "the model has no speech card, so it gives no text");
  tv_search_options defaults;
  tv_search_defaults(&defaults);
  if (!options) options = &defaults;
  try {
    *search = make_search({speech->tokens, speech->blank}, *options).release();
    return TV_OK;
  } catch (...) {
    return caught(options->language_model ? options->language_model : __func__);
  }
}

tv_error tv_search_change(tv_search* search, const tv_search_options* options) {
  if (!search) return fail(TV_ERROR_ARGUMENT, __func__, "search is NULL");
  if (!options) return fail(TV_ERROR_ARGUMENT, __func__, "options is NULL");
  try {
    const std::unique_ptr<tv_search> made =
        make_search(search->search.vocabulary->alphabet, *options);
    made->set_hot_words(search->search.settings.hot_words);
    *search = std::move(*made);
    return TV_OK;
  } catch (...) {
    return caught(options->language_model ? options->language_model : __func__);
  }
}

tv_error tv_search_add_hot_word(tv_search* search, const char* word, float boost) {
  return change_hot_words(__func__, search, word, [&](auto& words, size_t) {
    words.push_back({word, boost});
    return TV_OK;
  });
}

tv_error tv_search_erase_hot_word(tv_search* search, const char* word) {
  const char* caller = __func__;
  return change_hot_words(caller, search, word, [&](auto&, size_t same) {
    return same ? TV_OK : fail(TV_ERROR_ARGUMENT, caller, "the word is no hot word");
  });
}

tv_error tv_search_clear_hot_words(tv_search* search) {
  return change_hot_words(__func__, search, "", [](auto& words, size_t) {
    words.clear();
    return TV_OK;
  });
}

void tv_search_close(tv_search* search) { delete search; }

tv_error tv_stream_best(tv_stream* stream, size_t count, tv_result** result) {
  const char* caller = __func__;
  if (!result) return fail(TV_ERROR_ARGUMENT, caller, "result is NULL");
  *result = nullptr;
  return use(stream, caller, [&](Utterance& utterance) {
    if (!utterance.speech.beam())
      return fail(TV_ERROR_ARGUMENT, caller, "the stream decodes greedily; open it with a search");
    if (utterance.state == State::broken) return fail(TV_ERROR_BROKEN, caller, broken);
    *result = make_result(utterance.speech, count).release();
    return TV_OK;
  });
}

void tv_result_free(tv_result* result) { delete static_cast<Result*>(result); }

tv_error tv_transcribe(const tv_model* model, const tv_search* search, const int16_t* samples,
                       size_t count, char** text) {
  if (!text) return fail(TV_ERROR_ARGUMENT, __func__, "text is NULL");
  *text = nullptr;
  tv_stream* stream = nullptr;
  tv_error error = open_stream(__func__, model, search, &stream);
  if (!error) error = tv_stream_feed(stream, samples, count);
  if (!error) error = tv_stream_finish(stream);
  if (!error)
    error = use(stream, __func__, [&](Utterance& utterance) {
      *text = copy_of(utterance.speech.text());
      return TV_OK;
    });
  tv_stream_close(stream);
  return error;
}

void tv_string_free(char* text) { delete[] text; }
