// Texts with confidence and times, and whole utterances in one call.
#include <cstring>

#include "c_api/handles.h"

namespace tinyvox::c_api {
namespace {

// The texts and tokens that a result points to.
struct Result : tv_result {
  std::vector<std::string> texts;
  std::vector<std::vector<tv_token>> tokens;
  std::vector<tv_transcript> all;
  std::shared_ptr<const Vocabulary> vocabulary;  // has the texts of tokens
};

std::unique_ptr<Result> make_result(const SpeechStream& speech, size_t count) {
  const BeamDecoder& beam = *speech.beam();
  auto result = std::make_unique<Result>();
  result->vocabulary = beam.shared_vocabulary();
  const std::vector<Transcript> found = speech.best(count);
  for (const Transcript& each : found) {
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

// Gives `work` a stream that has heard the whole utterance.
template <typename Work>
tv_error hear(const char* caller, const tv_model* model, const tv_search* search,
              const int16_t* samples, size_t count, const Work& work) {
  tv_stream* stream = nullptr;
  tv_error error = open_stream(caller, model, search, &stream);
  if (!error) error = tv_stream_feed(stream, samples, count);
  if (!error) error = tv_stream_finish(stream);
  if (!error) error = work(stream);
  tv_stream_close(stream);
  return error;
}

}  // namespace
}  // namespace tinyvox::c_api

using namespace tinyvox::c_api;

tv_error tv_stream_best(tv_stream* stream, size_t count, tv_result** result) {
  const char* caller = __func__;
  if (!result) return fail(TV_ERROR_ARGUMENT, caller, "result is NULL");
  *result = nullptr;
  return use(stream, caller, [&](Utterance& utterance) {
    if (!utterance.speech.beam())
      return fail(TV_ERROR_ARGUMENT, caller, "the stream decodes greedily; open it with a search");
    if (const tv_error error = check_not_broken(utterance, caller)) return error;
    *result = make_result(utterance.speech, count).release();
    return TV_OK;
  });
}

void tv_result_free(tv_result* result) { delete static_cast<Result*>(result); }

tv_error tv_recognize(const tv_model* model, const tv_search* search, const int16_t* samples,
                      size_t count, size_t texts, tv_result** result) {
  if (!result) return fail(TV_ERROR_ARGUMENT, __func__, "result is NULL");
  *result = nullptr;
  if (!search) return fail(TV_ERROR_ARGUMENT, __func__, "search is NULL");
  return hear(__func__, model, search, samples, count,
              [&](tv_stream* stream) { return tv_stream_best(stream, texts, result); });
}

tv_error tv_transcribe(const tv_model* model, const tv_search* search, const int16_t* samples,
                       size_t count, char** text) {
  const char* caller = __func__;
  if (!text) return fail(TV_ERROR_ARGUMENT, caller, "text is NULL");
  *text = nullptr;
  return hear(caller, model, search, samples, count, [&](tv_stream* stream) {
    return use(stream, caller, [&](Utterance& utterance) {
      *text = copy_of(utterance.speech.text());
      return TV_OK;
    });
  });
}

void tv_string_free(char* text) { delete[] text; }
