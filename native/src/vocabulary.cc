#include "vocabulary.h"

#include <algorithm>
#include <numbers>
#include <span>
#include <stdexcept>

namespace tinyvox {
namespace {

// Natural logarithm of the probability of a word without context.
float chance_of(const NgramModel* model, uint32_t word) {
  if (!model) return 0;
  NgramModel::State after;
  return model->score(model->begin(false), word, after) * std::numbers::ln10_v<float>;
}

bool is_word(uint32_t id) {
  return id != NgramModel::unknown && id != NgramModel::sentence_start &&
         id != NgramModel::sentence_end;
}

std::vector<Entry> entries_of(const NgramModel* model, const VocabularyOptions& options) {
  std::vector<Entry> entries;
  const auto add = [&](const std::string& word) {
    const uint32_t id = model ? model->id(word) : NgramModel::unknown;
    entries.push_back({word, id, chance_of(model, id)});
  };
  if (model && options.words.empty()) {
    std::vector<std::string> words = model->words();
    for (uint32_t id = 0; id < words.size(); ++id)
      if (is_word(id)) entries.push_back({std::move(words[id]), id, chance_of(model, id)});
  }
  for (const std::string& word : options.words) add(word);
  for (const std::string& word : options.more) add(word);
  return entries;
}

// Raises std::invalid_argument if tokens can spell none of them. Hot words do not count: they hide
// that a language model is for another language.
void check_spelled(std::span<const Entry> own, const Alphabet& alphabet) {
  const auto spelled = [&](const Entry& each) { return !alphabet.spell(each.word).empty(); };
  if (std::any_of(own.begin(), own.end(), spelled)) return;
  throw std::invalid_argument("the tokens of the acoustic model can spell none of the " +
                              std::to_string(own.size()) +
                              " words; give a language model of the same language");
}

}  // namespace

std::shared_ptr<const Vocabulary> make_vocabulary(Alphabet alphabet,
                                                  std::shared_ptr<const NgramModel> model,
                                                  const VocabularyOptions& options) {
  auto result = std::make_shared<Vocabulary>(Vocabulary{
      std::move(alphabet), std::move(model), nullptr, options.closed, options.characters, 0});
  const NgramModel* const known = result->model.get();
  result->unknown = chance_of(known, NgramModel::unknown);
  const std::vector<Entry> entries = entries_of(known, options);
  if (entries.empty() && !known) return result;
  const size_t more = known || !options.words.empty() ? options.more.size() : 0;
  if (options.closed)
    check_spelled(std::span(entries).first(entries.size() - more), result->alphabet);
  result->lexicon = std::make_shared<Lexicon>(entries, result->alphabet);
  return result;
}

}  // namespace tinyvox
