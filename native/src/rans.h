// Entropy coding of a matrix's codes: rANS (J. Duda, arXiv:1311.2540, section 3) with one static
// frequency for each symbol, interleaved (F. Giesen, arXiv:1402.3392).
//
// Code i belongs to state i mod 8, so that a processor works on eight independent chains at once. A
// state lies in [2^16, 2^32) and moves 16 bits at a time, so that a code costs at most one word.
//
//   frequency of each of `entries` symbols, varint, sum 2^12 | 8 states, u32 | words, u16, as read
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tinyvox {

// Every code is below `entries`, which is 1 to 256.
std::vector<uint8_t> rans_encode(std::span<const uint8_t> codes, uint32_t entries);

// Fills `codes`, all below `entries`. Raises FormatError unless the bytes are what rans_encode
// could have written for that many codes; reads no byte outside them.
void rans_decode(std::span<const uint8_t> bytes, uint32_t entries, std::span<uint8_t> codes);

}  // namespace tinyvox
