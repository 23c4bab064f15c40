// What words and hot words add to the scores of prefixes.
#pragma once

#include <memory>
#include <span>

#include "hot_words.h"
#include "prefixes.h"
#include "vocabulary.h"

namespace tinyvox {

// While a word is being spelled its score holds that of the likeliest word it may become, as far as
// that is known without the words before it; and beta, which is the same for all words.
class WordScores {
 public:
  // Raises std::invalid_argument for hot words that tokens cannot spell.
  WordScores(std::shared_ptr<const Vocabulary> vocabulary, float alpha, float beta,
             std::span<const HotWord> hot_words);

  void begin(Prefix& root) const;
  // What a token adds to the score of a prefix; minus infinity if it may not follow. If there is
  // `to`, sets its states.
  float gain(Prefix& from, uint32_t token, Prefix* to) const;
  // The most that a letter may add to the score of a prefix.
  float most(const Prefix& from) const;
  // What the end of the utterance adds to the score of a prefix.
  float last_gain(const Prefix& prefix) const;

  // Whether whatever comes adds the same to both; and a hash for it.
  static bool same_future(const Prefix& a, const Prefix& b) {
    return a.token == b.token && a.word == b.word && a.hot == b.hot && a.context == b.context;
  }
  static uint64_t future(const Prefix& prefix);

 private:
  float chance(uint32_t state) const;
  float gain_of_words(Prefix& from, uint32_t token, Prefix* to) const;
  float gain_of_letter(uint32_t word, uint32_t next) const;
  float end_of_word(Prefix& from) const;
  float score_word(const NgramModel::State& in, uint32_t state, NgramModel::State& out) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  float alpha_, beta_;
  HotWords hot_words_;
};

}  // namespace tinyvox
