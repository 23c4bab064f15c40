#include "word_scores.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace tinyvox {
namespace {

constexpr float never = -std::numeric_limits<float>::infinity();
constexpr float ln_10 = std::numbers::ln10_v<float>;
constexpr float unheard = -1000;  // of the unfinished word at the end: the score of DeepSpeech
constexpr uint32_t before_words = Lexicon::none - 1;  // a state of the lexicon: a space must come

}  // namespace

WordScores::WordScores(std::shared_ptr<const Vocabulary> vocabulary, float alpha, float beta,
                       std::span<const HotWord> hot_words)
    : vocabulary_(std::move(vocabulary)),
      alpha_(alpha),
      beta_(beta),
      hot_words_(hot_words, vocabulary_->alphabet, !vocabulary_->characters) {}

void WordScores::begin(Prefix& root) const {
  const bool waits = vocabulary_->closed && vocabulary_->alphabet.spaces_lead();
  root.word = vocabulary_->lexicon && waits ? before_words : Lexicon::root;
  root.hot = hot_words_.start();
  if (vocabulary_->model) root.context = vocabulary_->model->begin(true);
}

float WordScores::gain(Prefix& from, uint32_t token, Prefix* to) const {
  float total = vocabulary_->lexicon ? gain_of_words(from, token, to) : 0;
  if (hot_words_.empty()) return total;
  uint32_t hot = from.hot;
  for (uint16_t unit : vocabulary_->alphabet.units(token)) {
    const uint32_t next = hot_words_.next(hot, unit);
    total += hot_words_.gain(hot, next);
    hot = next;
  }
  if (to) to->hot = hot;
  return total;
}

uint64_t WordScores::future(const Prefix& prefix) {
  uint64_t hash = NgramModel::StateHash{}(prefix.context);
  for (uint32_t state : {prefix.token, prefix.word, prefix.hot})
    hash = (hash ^ state) * 0x9E3779B97F4A7C15u;
  return hash ^ hash >> 32;
}

float WordScores::most(const Prefix& from) const {
  // Tokens of several letters may end several hot words.
  const bool letters = vocabulary_->alphabet.tokens_are_units() || hot_words_.empty();
  const bool begins = vocabulary_->lexicon && from.word == Lexicon::root;
  return letters ? hot_words_.most(from.hot) + (begins ? std::max(0.0f, beta_) : 0) : -never;
}

float WordScores::gain_of_words(Prefix& from, uint32_t token, Prefix* to) const {
  const Vocabulary& known = *vocabulary_;
  const auto units = known.alphabet.units(token);
  NgramModel::State context = from.context;
  uint32_t word = from.word;
  float total = 0;
  for (const uint16_t& unit : units) {
    if (unit == known.alphabet.space() && !known.characters) {
      if (word == Lexicon::root && known.closed) return never;
      if (word != Lexicon::root && word != before_words) {
        const bool first = &unit == units.data();
        total += first ? end_of_word(from) : score_word(context, word, context);
        if (first) context = from.after_word;
      }
      word = Lexicon::root;
    } else {
      if (word == before_words) return never;
      const uint32_t next = word == Lexicon::none ? word : known.lexicon->child(word, unit);
      if (next == Lexicon::none && known.closed) return never;
      total += gain_of_letter(word, next);
      word = next;
      if (known.characters && known.lexicon->word(word) != Lexicon::none) {
        total += score_word(context, word, context);
        word = Lexicon::root;
      }
    }
  }
  if (to) {
    to->word = word;
    to->context = context;
  }
  return total;
}

// What is added ahead of the end of a word.
float WordScores::gain_of_letter(uint32_t word, uint32_t next) const {
  const float begins = word == Lexicon::root ? beta_ : 0;
  return begins + alpha_ * (chance(next) - chance(word));
}

// The largest chance of the words that a state of the lexicon may lead to.
float WordScores::chance(uint32_t state) const {
  return state == Lexicon::none ? vocabulary_->unknown : vocabulary_->lexicon->chance(state);
}

// What the end of the word of a prefix adds to its score.
float WordScores::end_of_word(Prefix& from) const {
  if (std::isnan(from.word_gain))
    from.word_gain = score_word(from.context, from.word, from.after_word);
  return from.word_gain;
}

// The same for the word at a state of the lexicon; `after` may be `context`.
float WordScores::score_word(const NgramModel::State& context, uint32_t state,
                             NgramModel::State& after) const {
  const uint32_t found = state == Lexicon::none ? state : vocabulary_->lexicon->word(state);
  if (found == Lexicon::none && vocabulary_->closed) return never;
  const float before = alpha_ * chance(state);  // has been added letter by letter
  if (!vocabulary_->model) return -before;
  const uint32_t word = found == Lexicon::none ? NgramModel::unknown : found;
  return alpha_ * ln_10 * vocabulary_->model->score(context, word, after) - before;
}

float WordScores::last_gain(const Prefix& prefix) const {
  const float hot = hot_words_.empty() ? 0 : hot_words_.end(prefix.hot);
  const uint32_t word = prefix.word;
  if (!vocabulary_->lexicon || word == Lexicon::root || word == before_words) return hot;
  NgramModel::State after;
  const float gain = score_word(prefix.context, word, after);
  return hot + (gain > never ? gain : alpha_ * (unheard - chance(word)) - beta_);
}

}  // namespace tinyvox
