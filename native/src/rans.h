// Entropy coding of a matrix's codes: interleaved rANS with static frequencies. Sources: J. Duda,
// arXiv:1311.2540, section 3 (rANS); F. Giesen, arXiv:1402.3392 (interleaving). There is one model,
// a set of frequencies, for the matrix or one for each group of rows; with a trellis, each of them
// is two, one for each quantizer.
//
// Code j of a row belongs to state j mod 8, so that a processor works on eight independent chains
// at once. A state lies in [2^16, 2^32) and moves 16 bits at a time, so that a code reads at most
// one word.
//
//   for each model, the frequency of each of `entries` codes, varint, sum 2^12; or only a 0 and
//   nothing more for a model that no code has | 8 states, u32 | words, u16, as read
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace tinyvox {

// What the coder knows about codes [rows, columns] besides the codes themselves.
struct CodeShape {
  size_t rows, columns;
  uint32_t entries;                // every code is below it, 1 to 256
  std::span<const uint8_t> group;  // of each row; empty: one model for all rows
  uint32_t groups = 1;
  std::optional<uint32_t> trellis = std::nullopt;  // the code of level 0, if there is a trellis

  uint32_t models() const { return groups * (trellis ? 2 : 1); }
};

// Raises FormatError if the codes do not follow the trellis.
std::vector<uint8_t> rans_encode(std::span<const uint8_t> codes, const CodeShape& shape);

// How often each code occurs in each model, [models, entries]. Raises FormatError as rans_encode.
std::vector<uint64_t> count_codes(std::span<const uint8_t> codes, const CodeShape& shape);

// Fills `codes`; all are below `entries`. Raises FormatError unless rans_encode could have written
// these bytes for that many codes. Reads no byte outside them.
void rans_decode(std::span<const uint8_t> bytes, const CodeShape& shape, std::span<uint8_t> codes);

}  // namespace tinyvox
