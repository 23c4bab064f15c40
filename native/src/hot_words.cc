#include "hot_words.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace tinyvox {

HotWords::HotWords(std::span<const HotWord> words, const Alphabet& alphabet, bool whole)
    : whole_(whole), space_(alphabet.space()), class_(alphabet.size(), 0) {
  std::vector<std::u16string> spelled;
  for (const HotWord& word : words) {
    std::u16string units = alphabet.spell(word.text);
    if (word.text.empty()) throw std::invalid_argument("a hot word is empty");
    if (units.empty())
      throw std::invalid_argument("the hot word \"" + word.text +
                                  "\" has a character that no token of the model gives: \"" +
                                  alphabet.unspelled(word.text) + '"');
    if (!std::isfinite(word.boost))
      throw std::invalid_argument("the boost of the hot word \"" + word.text + "\" is not finite");
    const char16_t space = space_;
    if (whole) units = space + units + space;
    for (char16_t unit : units)
      if (!class_[unit]) class_[unit] = classes_++;
    spelled.push_back(std::move(units));
  }
  next_.assign(classes_, 0);
  gain_ = advance_ = {0};
  for (size_t i = 0; i < words.size(); ++i) add(spelled[i], words[i].boost);
  link();
  if (whole) start_ = next(0, space_);
}

uint64_t HotWords::most_bytes(std::span<const HotWord> words, const Alphabet& alphabet) {
  uint64_t states = 1;
  for (const HotWord& word : words) states += word.text.size() + 2;  // with a space at each end
  const uint64_t classes = 1 + std::min<uint64_t>(states, alphabet.size());
  return states * (classes * sizeof(uint32_t) + 3 * sizeof(float));
}

void HotWords::add(const std::u16string& units, float boost) {
  const size_t edge = whole_ ? 1 : 0, letters = units.size() - 2 * edge;
  uint32_t state = 0;
  for (size_t i = 0; i < units.size(); ++i) {
    const size_t at = state * classes_ + class_[units[i]];
    if (!next_[at]) {
      next_[at] = static_cast<uint32_t>(gain_.size());
      next_.resize(next_.size() + classes_, 0);
      gain_.push_back(0);
      advance_.push_back(0);
    }
    state = next_[at];
    const size_t spelled = std::min(i + 1 - edge, letters);
    if (i + 1 < units.size())
      advance_[state] = std::max(advance_[state],
                                 boost * static_cast<float>(spelled) / static_cast<float>(letters));
  }
  gain_[state] = boost;  // that of the last, if a word is given twice
}

void HotWords::link() {
  std::vector<uint32_t> fail(gain_.size(), 0), queue;
  for (uint32_t c = 0; c < classes_; ++c)
    if (const uint32_t child = next_[c]) queue.push_back(child);
  for (size_t i = 0; i < queue.size(); ++i) {  // by length, so that shorter ones are finished
    const uint32_t state = queue[i];
    gain_[state] += gain_[fail[state]];  // hot words that end within it
    advance_[state] = std::max(advance_[state], advance_[fail[state]]);
    for (uint32_t c = 0; c < classes_; ++c) {
      uint32_t& child = next_[state * classes_ + c];
      const uint32_t other = next_[fail[state] * classes_ + c];
      if (child) {
        fail[child] = other;
        queue.push_back(child);
      } else {
        child = other;
      }
    }
  }
  for (size_t state = 0; state < gain_.size(); ++state) gain_[state] += advance_[state];
  for (uint32_t state = 0; state < gain_.size(); ++state) {
    float& most = most_.emplace_back(-advance_[state]);
    for (uint32_t c = 0; c < classes_; ++c)
      most = std::max(most, gain(state, next_[state * classes_ + c]));
  }
}

float HotWords::end(uint32_t state) const {
  if (!whole_) return -advance_[state];
  const uint32_t last = next(state, space_);
  return gain(state, last) - advance_[last];
}

}  // namespace tinyvox
