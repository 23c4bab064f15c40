// The words that a decoder may spell, letter by letter, and what letters its tokens are made of.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tinyvox {

// Tokens as units: where each token is one character, a unit is a token; else it is a byte, so
// that pieces of words and single bytes of UTF-8 spell the same words.
class Alphabet {
 public:
  // `tokens` are texts as they are printed.
  Alphabet(std::span<const std::string> tokens, uint32_t blank);

  size_t tokens() const { return texts_.size(); }
  uint32_t blank() const { return blank_; }
  const std::string& text(uint32_t token) const { return texts_[token]; }
  bool tokens_are_units() const { return single_; }
  std::span<const uint16_t> units(uint32_t token) const;

  // The unit of the space, which no token need give.
  uint16_t space() const { return space_; }
  size_t size() const { return size_; }  // of units, the space among them
  // Whether words begin with a space, as pieces of words do.
  bool spaces_lead() const { return spaces_lead_; }

  // The units of a word; none if no token gives one of its characters.
  std::u16string spell(std::string_view word) const;
  // The first character that no token gives; empty if there is none.
  std::string unspelled(std::string_view word) const;

 private:
  bool find_characters();
  void find_bytes();

  std::vector<std::string> texts_;
  uint32_t blank_;
  bool single_ = false, spaces_lead_ = false;
  uint16_t space_ = ' ';
  size_t size_ = 256;
  std::unordered_map<std::string, uint16_t> characters_;  // and their units
  std::vector<uint16_t> units_;
  std::vector<uint32_t> starts_;  // [tokens + 1]: of the units of each token
};

// A word, and its number in the language model.
struct Entry {
  std::string word;
  uint32_t id;
  float chance;  // natural logarithm of its probability without context
};

// A trie of words. States are numbers; children of a state follow each other, by unit.
class Lexicon {
 public:
  static constexpr uint32_t root = 0;    // between two words
  static constexpr uint32_t none = ~0u;  // no state, no word

  // Leaves out words that the alphabet cannot spell.
  Lexicon(std::span<const Entry> entries, const Alphabet& alphabet);

  uint32_t child(uint32_t state, uint16_t unit) const;
  uint32_t word(uint32_t state) const { return states_[state].word; }  // that ends here, or none
  // The largest chance of a word that may still come; 0 at the root.
  float chance(uint32_t state) const { return states_[state].chance; }
  uint32_t first(uint32_t state) const { return states_[state].first; }
  uint32_t children(uint32_t state) const { return states_[state].children; }
  uint16_t unit(uint32_t state) const { return units_[state]; }
  size_t words() const { return words_; }
  size_t bytes() const;

 private:
  struct State {
    uint32_t first = 0, children = 0, word = none;
    float chance = 0;
  };

  std::vector<State> states_;
  std::vector<uint16_t> units_;  // [state]: that leads to it
  size_t words_ = 0;
};

}  // namespace tinyvox
