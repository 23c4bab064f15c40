// Searches: how texts are looked for, and which hot words may always be said.
#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "c_api/handles.h"

namespace tinyvox::c_api {
namespace {

constexpr float of_file = std::numeric_limits<float>::quiet_NaN();
constexpr tv_search_options default_options{
    sizeof(tv_search_options), nullptr, nullptr, 0, of_file, of_file, 100, 0, 0, 40, 1, 0};
constexpr NgramModel::Weights usual{0.93f, 1.18f};

// A language model in bytes of its own.
struct Owned {
  explicit Owned(std::span<const uint8_t> given)
      : bytes(given.begin(), given.end()), model(std::span<const uint8_t>(bytes)) {}

  std::vector<uint8_t> bytes;
  NgramModel model;
};

std::shared_ptr<const NgramModel> open_language_model(const tv_search_options& options) {
  if (options.language_model) return std::make_shared<const NgramModel>(options.language_model);
  if (!options.language_model_bytes) return nullptr;
  const auto* const bytes = static_cast<const uint8_t*>(options.language_model_bytes);
  const auto owned = std::make_shared<const Owned>(
      std::span(bytes, static_cast<size_t>(options.language_model_size)));
  return {owned, &owned->model};
}

BeamSettings settings_of(const tv_search_options& options, const NgramModel* model) {
  const NgramModel::Weights own = model ? model->weights().value_or(usual) : usual;
  BeamSettings settings;
  settings.beam = options.beam;
  settings.alpha = std::isnan(options.alpha) ? own.alpha : options.alpha;
  if (model)  // without one there are no words
    settings.beta = std::isnan(options.beta) ? own.beta : options.beta;
  settings.cutoff_tokens = options.cutoff_tokens;
  settings.cutoff_probability = options.cutoff_probability;
  return settings;
}

std::unique_ptr<tv_search> make_search(const Alphabet& alphabet, const tv_search_options& options) {
  if (options.reserved)  // or later versions could not use it
    throw std::invalid_argument("reserved is " + std::to_string(options.reserved) +
                                ", expected 0; set the options to their defaults first");
  std::shared_ptr<const NgramModel> model = open_language_model(options);
  auto made = std::make_unique<tv_search>();
  made->options.closed = !options.open_vocabulary;
  made->options.characters = options.characters;
  made->search.settings = settings_of(options, model.get());
  made->search.vocabulary = make_vocabulary(alphabet, std::move(model), made->options);
  const BeamDecoder checked(made->search);
  return made;
}

// Gives `work` a search with these options.
template <typename Work>
tv_error with_search(const char* caller, const Alphabet& alphabet, const tv_search_options* given,
                     const Work& work) {
  tv_search_options options = default_options;
  if (const tv_error error = read_settings(caller, given, options)) return error;
  return attempt(options.language_model ? options.language_model : caller, [&] {
    work(make_search(alphabet, options));
    return TV_OK;
  });
}

// Hot words have one space between their words, and none around them.
std::string single_spaced(const char* text) {
  std::string result = text;
  const auto both = [](char one, char next) { return one == ' ' && next == ' '; };
  result.erase(std::unique(result.begin(), result.end(), both), result.end());
  if (result.starts_with(' ')) result.erase(0, 1);
  if (result.ends_with(' ')) result.pop_back();
  return result;
}

// Replaces hot words by those that `change` makes of them.
template <typename Change>
tv_error change_hot_words(const char* caller, tv_search* search, const char* word,
                          const Change& change) {
  if (!search) return fail(TV_ERROR_ARGUMENT, caller, "search is NULL");
  if (!word) return fail(TV_ERROR_ARGUMENT, caller, "word is NULL");
  return attempt(caller, [&] {
    std::vector<HotWord> words = search->search.settings.hot_words;
    std::string text = single_spaced(word);
    const size_t same = std::erase_if(words, [&](const auto& each) { return each.text == text; });
    if (const tv_error error = change(words, same, std::move(text))) return error;
    search->set_hot_words(std::move(words));
    return TV_OK;
  });
}

}  // namespace
}  // namespace tinyvox::c_api

using namespace tinyvox::c_api;

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

void tv_search_defaults(tv_search_options* options, size_t size) {
  give_defaults(options, size, &default_options, sizeof default_options);
}

tv_error tv_search_open(const tv_model* model, const tv_search_options* options,
                        tv_search** search) {
  if (!search) return fail(TV_ERROR_ARGUMENT, __func__, "search is NULL");
  *search = nullptr;
  tv_error error;
  const tinyvox::Speech* const speech = speech_of(model, __func__, error);
  if (!speech) return error;
  return with_search(__func__, {speech->tokens, speech->blank}, options,
                     [&](auto made) { *search = made.release(); });
}

tv_error tv_search_change(tv_search* search, const tv_search_options* options) {
  if (!search) return fail(TV_ERROR_ARGUMENT, __func__, "search is NULL");
  if (!options) return fail(TV_ERROR_ARGUMENT, __func__, "options is NULL");
  return with_search(__func__, search->search.vocabulary->alphabet, options, [&](auto made) {
    made->set_hot_words(search->search.settings.hot_words);
    *search = std::move(*made);
  });
}

tv_error tv_search_add_hot_word(tv_search* search, const char* word, float boost) {
  return change_hot_words(__func__, search, word, [&](auto& words, size_t, std::string text) {
    words.push_back({std::move(text), boost});
    return TV_OK;
  });
}

tv_error tv_search_erase_hot_word(tv_search* search, const char* word) {
  const char* caller = __func__;
  return change_hot_words(caller, search, word, [&](auto&, size_t same, const std::string&) {
    return same ? TV_OK : fail(TV_ERROR_ARGUMENT, caller, "the word is no hot word");
  });
}

tv_error tv_search_clear_hot_words(tv_search* search) {
  return change_hot_words(__func__, search, "", [](auto& words, size_t, const std::string&) {
    words.clear();
    return TV_OK;
  });
}

void tv_search_close(tv_search* search) { delete search; }

tv_error tv_stream_open_search(const tv_model* model, const tv_search* search, tv_stream** stream) {
  return open_stream(__func__, model, search, stream);
}
