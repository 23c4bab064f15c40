#include "lexicon.h"

#include <algorithm>
#include <limits>

namespace tinyvox {
namespace {

// The bytes of the UTF-8 character that begins with `first`.
size_t character_bytes(unsigned char first) {
  return first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

bool is_character(std::string_view text) {
  return !text.empty() && character_bytes(static_cast<unsigned char>(text[0])) == text.size();
}

// Such as <unk>, which no audio says.
bool is_special(std::string_view text) {
  return text.empty() || (text.size() > 2 && text.front() == '<' && text.back() == '>');
}

}  // namespace

Alphabet::Alphabet(std::span<const std::string> tokens, uint32_t blank)
    : texts_(tokens.begin(), tokens.end()), blank_(blank) {
  single_ = find_characters();
  if (!single_) find_bytes();
}

bool Alphabet::find_characters() {
  if (texts_.size() >= std::numeric_limits<uint16_t>::max()) return false;
  for (uint32_t i = 0; i < texts_.size(); ++i) {
    if (i == blank_ || is_special(texts_[i])) continue;
    const auto first = static_cast<unsigned char>(texts_[i][0]);
    const bool inside = first >= 0x80 && first < 0xC0;  // the middle of a character
    if (inside || !is_character(texts_[i]) ||
        !characters_.emplace(texts_[i], static_cast<uint16_t>(i)).second)
      return false;
  }
  space_ = characters_.emplace(" ", static_cast<uint16_t>(texts_.size())).first->second;
  size_ = texts_.size() + 1;
  for (uint32_t i = 0; i <= texts_.size(); ++i) {
    starts_.push_back(i);
    units_.push_back(static_cast<uint16_t>(i));
  }
  return true;
}

void Alphabet::find_bytes() {
  for (uint32_t i = 0; i < texts_.size(); ++i) {
    starts_.push_back(static_cast<uint32_t>(units_.size()));
    if (i == blank_) continue;
    for (unsigned char byte : texts_[i]) units_.push_back(byte);
    spaces_lead_ = spaces_lead_ || (texts_[i].size() > 1 && texts_[i][0] == ' ');
  }
  starts_.push_back(static_cast<uint32_t>(units_.size()));
}

std::span<const uint16_t> Alphabet::units(uint32_t token) const {
  return {units_.data() + starts_[token], units_.data() + starts_[token + 1]};
}

std::u16string Alphabet::spell(std::string_view word) const {
  std::u16string result;
  if (!single_) {
    for (unsigned char byte : word) result += static_cast<char16_t>(byte);
    return result;
  }
  std::string character;
  for (size_t at = 0; at < word.size(); at += character.size()) {
    character = word.substr(at, character_bytes(static_cast<unsigned char>(word[at])));
    const auto found = characters_.find(character);
    if (found == characters_.end()) return {};
    result += static_cast<char16_t>(found->second);
  }
  return result;
}

std::string Alphabet::unspelled(std::string_view word) const {
  if (!single_) return "";
  std::string character;
  for (size_t at = 0; at < word.size(); at += character.size()) {
    character = word.substr(at, character_bytes(static_cast<unsigned char>(word[at])));
    if (!characters_.contains(character)) return character;
  }
  return "";
}

Lexicon::Lexicon(std::span<const Entry> entries, const Alphabet& alphabet) {
  struct Spelled {
    std::u16string units;
    const Entry* entry;
  };
  std::vector<Spelled> words;
  words.reserve(entries.size());
  for (const Entry& entry : entries)
    if (std::u16string units = alphabet.spell(entry.word); !units.empty())
      words.push_back({std::move(units), &entry});
  std::stable_sort(words.begin(), words.end(),
                   [](const auto& a, const auto& b) { return a.units < b.units; });

  constexpr float never = -std::numeric_limits<float>::infinity();
  struct Range {
    size_t begin, end, depth;  // words whose first `depth` units lead to the state
  };
  std::vector<Range> ranges{{0, words.size(), 0}};  // [state]
  states_.push_back({0, 0, none, never});
  units_.push_back(0);
  for (uint32_t state = 0; state < states_.size(); ++state) {
    auto [begin, end, depth] = ranges[state];
    for (; begin < end && words[begin].units.size() == depth; ++begin) {
      if (states_[state].word != none) continue;  // twice in the list
      states_[state].word = words[begin].entry->id;
      states_[state].chance = words[begin].entry->chance;
      ++words_;
    }
    states_[state].first = static_cast<uint32_t>(states_.size());
    while (begin < end) {
      const char16_t unit = words[begin].units[depth];
      size_t next = begin;
      while (next < end && words[next].units[depth] == unit) ++next;
      ranges.push_back({begin, next, depth + 1});
      states_.push_back({0, 0, none, never});
      units_.push_back(unit);
      ++states_[state].children;
      begin = next;
    }
  }
  for (size_t state = states_.size(); state-- > 0;)
    for (uint32_t i = 0; i < states_[state].children; ++i)
      states_[state].chance =
          std::max(states_[state].chance, states_[states_[state].first + i].chance);
  states_[root].chance = 0;
}

uint32_t Lexicon::child(uint32_t state, uint16_t unit) const {
  const State& from = states_[state];
  const uint16_t* const begin = units_.data() + from.first;
  const uint16_t* const end = begin + from.children;
  const uint16_t* const found =
      from.children > 8 ? std::lower_bound(begin, end, unit) : std::find(begin, end, unit);
  return found != end && *found == unit ? static_cast<uint32_t>(found - units_.data()) : none;
}

size_t Lexicon::bytes() const {
  return states_.capacity() * sizeof(State) + units_.capacity() * sizeof(uint16_t);
}

}  // namespace tinyvox
