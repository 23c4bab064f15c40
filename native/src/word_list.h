// The words of a language model: front-coded in alphabetical order, with a prefix code for each
// byte by the byte before it. docs/tvlm.md is the specification.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bytes.h"
#include "monotone.h"

namespace tinyvox {

// Canonical codes, as in DEFLATE (RFC 1951, section 3.2.2).
struct PrefixCode {
  static constexpr uint32_t longest = 15;

  std::array<uint16_t, longest + 1> count{};  // of codes, by length
  std::vector<uint8_t> symbols;               // in the order of their codes

  // Of the symbols given, those of length 0 have no code. Raises FormatError if the codes do not
  // fit.
  PrefixCode(std::span<const uint8_t> symbols_of, std::span<const uint8_t> lengths);
  PrefixCode() = default;
};

class WordList {
 public:
  // Words of the special ids, which are not in the list.
  static constexpr std::array<std::string_view, 3> special{"<unk>", "<s>", "</s>"};
  static constexpr uint32_t longest = 1023;  // bytes of a word

  // Reads a section, and every word of it. Raises FormatError.
  explicit WordList(std::span<const uint8_t> section);

  uint32_t size() const { return size_; }
  std::optional<uint32_t> find(std::string_view word) const;
  std::string at(uint32_t id) const;
  std::vector<std::string> all() const;

 private:
  class Cursor;

  void read_codes(Reader& reader);
  void check() const;
  std::optional<uint32_t> find_in(uint32_t first, uint32_t end, std::string_view word) const;

  uint32_t size_ = 0;
  PrefixCode shared_;
  std::vector<PrefixCode> following_;  // of what follows each byte; 0 for the start of a word
  Monotone ends_;                      // of blocks of words, in bits
  std::span<const uint8_t> bits_;
};

}  // namespace tinyvox
