// Streams: audio in, text and log-probabilities out.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "c_api/handles.h"

namespace tinyvox::c_api {
namespace {

constexpr char finished[] = "the stream is finished; reset it, or open another";
constexpr char broken[] = "the stream ran out of memory and lost audio; reset it, or close it";

// If `work` throws, the stream is broken.
template <typename Work>
tv_error change(Utterance& utterance, State after, const Work& work) {
  utterance.state = State::broken;
  work(utterance.speech);
  utterance.state = after;
  return TV_OK;
}

// Converts samples to floats in [-1, 1), as Python's streams do, without allocating.
void feed(SpeechStream& speech, std::span<const int16_t> samples) {
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
    if (const tv_error error = check_not_broken(utterance, caller)) return error;
    if (!std::all_of(samples, samples + count, [](Sample each) { return std::isfinite(each); }))
      return fail(TV_ERROR_ARGUMENT, caller, "audio holds NaN or infinity");
    return change(utterance, State::listening, work);
  });
}

struct LogProbabilities : tv_log_probabilities {
  std::vector<float> kept;
};

}  // namespace

tv_error check_not_broken(const Utterance& utterance, const char* caller) {
  return utterance.state == State::broken ? fail(TV_ERROR_BROKEN, caller, broken) : TV_OK;
}

tv_error open_stream(const char* caller, const tv_model* model, const tv_search* search,
                     tv_stream** stream) {
  if (!stream) return fail(TV_ERROR_ARGUMENT, caller, "stream is NULL");
  *stream = nullptr;
  tv_error error;
  if (!speech_of(model, caller, error)) return error;
  return attempt(caller, [&] {
    *stream = new tv_stream(model->shared, search ? &search->search : nullptr);
    return TV_OK;
  });
}

}  // namespace tinyvox::c_api

using namespace tinyvox::c_api;

tv_error tv_stream_open(const tv_model* model, tv_stream** stream) {
  return open_stream(__func__, model, nullptr, stream);
}

tv_error tv_stream_copy(tv_stream* stream, tv_stream** copy) {
  const char* caller = __func__;
  if (!copy) return fail(TV_ERROR_ARGUMENT, caller, "copy is NULL");
  *copy = nullptr;
  return use(stream, caller, [&](const Utterance& utterance) {
    if (const tv_error error = check_not_broken(utterance, caller)) return error;
    *copy = new tv_stream(utterance);
    return TV_OK;
  });
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
    if (const tv_error error = check_not_broken(utterance, caller)) return error;
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

tv_error tv_stream_keep_log_probabilities(tv_stream* stream) {
  return use(stream, __func__, [](Utterance& utterance) {
    utterance.speech.keep_log_probabilities();
    return TV_OK;
  });
}

tv_error tv_stream_log_probabilities(tv_stream* stream, tv_log_probabilities** taken) {
  const char* caller = __func__;
  if (!taken) return fail(TV_ERROR_ARGUMENT, caller, "taken is NULL");
  *taken = nullptr;
  return use(stream, caller, [&](Utterance& utterance) {
    if (!utterance.speech.keeps_log_probabilities())
      return fail(TV_ERROR_ARGUMENT, caller,
                  "the stream keeps none; call tv_stream_keep_log_probabilities first");
    auto made = std::make_unique<LogProbabilities>();
    made->kept = utterance.speech.take_log_probabilities();
    made->values = made->kept.data();
    made->tokens = utterance.speech.tokens();
    made->frames = made->kept.size() / made->tokens;
    *taken = made.release();
    return TV_OK;
  });
}

void tv_log_probabilities_free(tv_log_probabilities* taken) {
  delete static_cast<LogProbabilities*>(taken);
}

tv_error tv_stream_reset(tv_stream* stream) {
  return use(stream, __func__, [](Utterance& utterance) {
    return change(utterance, State::listening, [](auto& speech) { speech.reset(); });
  });
}

void tv_stream_close(tv_stream* stream) { delete stream; }
