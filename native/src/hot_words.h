// Words and phrases that should be heard more readily, each with a boost.
//
// While a hot word is being spelled, each letter earns its share of the boost in advance; if the
// word does not come after all, the advance is taken back. So a hot word is not lost from the beam
// before its end, and a text gets exactly the boosts of the hot words in it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lexicon.h"

namespace tinyvox {

struct HotWord {
  std::string text;  // words, with a space between them
  float boost;       // natural logarithm; below zero, the word is heard less readily
};

// Finds all hot words at once. Source: Aho and Corasick, "Efficient string matching", 1975.
class HotWords {
 public:
  // If `whole`, they count as whole words only. Raises std::invalid_argument for a hot word that
  // tokens cannot spell, or a boost that is not finite.
  HotWords(std::span<const HotWord> words, const Alphabet& alphabet, bool whole);

  // Memory that they take at most.
  static uint64_t most_bytes(std::span<const HotWord> words, const Alphabet& alphabet);

  bool empty() const { return gain_.size() == 1; }
  uint32_t start() const { return start_; }
  uint32_t next(uint32_t state, uint16_t unit) const {
    return next_[state * classes_ + class_[unit]];
  }
  // What the step from one state to another adds to the score.
  float gain(uint32_t from, uint32_t to) const { return gain_[to] - advance_[from]; }
  // What the end of the text adds.
  float end(uint32_t state) const;
  float most(uint32_t state) const { return most_[state]; }  // of the gains of its next steps

 private:
  void add(const std::u16string& units, float boost);
  void link();

  bool whole_;
  uint16_t space_;
  uint32_t start_ = 0, classes_ = 1;
  std::vector<uint32_t> class_;  // [unit]: 0 for those in no hot word
  std::vector<uint32_t> next_;   // [state, class]
  std::vector<float> gain_;      // [state]: boosts that are complete, and the advance
  std::vector<float> advance_;   // [state]
  std::vector<float> most_;      // [state]
};

}  // namespace tinyvox
