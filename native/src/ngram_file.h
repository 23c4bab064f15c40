// Parses and validates a .tvlm file, the only place that does. docs/tvlm.md is the specification.
//
// Nothing is copied but the codes of letters: what `parse_ngrams` returns refers to the bytes. It
// may be used without further checks: whatever the packed bits are, reading them stays inside of
// the sections.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "bits.h"
#include "container.h"
#include "monotone.h"
#include "ngram.h"
#include "word_list.h"

namespace tinyvox {

extern const FileKind tvlm_file;

// Numbers as codes of 0 to 24 bits into a codebook, or as they are, where codes have 32.
struct Codes {
  uint32_t bits = 0;
  const uint8_t* codebook = nullptr;
  const uint8_t* codes = nullptr;

  float at(uint64_t place) const {
    if (bits == 32) return __builtin_bit_cast(float, load_u32(codes + 4 * place));
    return __builtin_bit_cast(float, load_u32(codebook + 4 * load_bits(codes, place * bits, bits)));
  }
};

// Some of the places 0, 1, ... Records of 64 bytes hold 480 bits each, after the number of ones in
// all records before, u32.
struct BitVector {
  static constexpr uint32_t record_bits = 480, record_bytes = 64;

  const uint8_t* records = nullptr;

  // How many ones are before this place, if there is one at it.
  std::optional<uint32_t> rank(uint64_t place) const {
    const uint8_t* record = records + place / record_bits * record_bytes;
    const auto bit = static_cast<uint32_t>(place % record_bits);
    if (!(record[4 + bit / 8] >> bit % 8 & 1)) return std::nullopt;
    uint32_t ones = load_u32(record);
    for (uint32_t at = 0; at + 64 <= bit; at += 64)
      ones += count_ones(load_u64(record + 4 + at / 8));
    const uint64_t word = load_u64(record + 4 + bit / 64 * 8);  // may end beyond the record
    return ones + count_ones(word & ((uint64_t{1} << bit % 64) - 1));
  }
};

// The n-grams of one length: the children of each context stand side by side.
struct NgramLevel {
  uint64_t entries = 0;
  uint32_t contexts = 0;  // entries that something may follow, or that have a back-off
  Monotone ends;          // where the children of each context of the level below end
  Monotone words;         // of entries: their places among the children of the shorter context
  BitVector continued;    // which entries are contexts
  Codes log10, backoff;   // of entries; of contexts
};

struct NgramFile {
  WordList words;
  std::vector<NgramLevel> levels;
  std::optional<NgramModel::Weights> weights;
};

// Raises FormatError with one line that says what was found and what was expected.
NgramFile parse_ngrams(std::span<const uint8_t> bytes);

}  // namespace tinyvox
