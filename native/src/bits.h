// Bits packed in bytes: the lowest bit of a byte is its first. Functions may read up to eight bytes
// from the one that holds a bit, so sections that are read like this end with eight bytes of zero.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace tinyvox {

inline uint64_t load_u64(const uint8_t* p) {
  uint64_t word = 0;
  if constexpr (std::endian::native == std::endian::little) {
    std::memcpy(&word, p, sizeof word);
  } else {
    for (int i = 0; i < 8; ++i) word |= static_cast<uint64_t>(p[i]) << 8 * i;
  }
  return word;
}

// `width` bits, at most 57, from bit `at` on.
inline uint64_t load_bits(const uint8_t* bytes, uint64_t at, uint32_t width) {
  return load_u64(bytes + at / 8) >> at % 8 & ((uint64_t{1} << width) - 1);
}

// Byte i holds the number of ones in bytes 0 to i; the highest one is that of all. The baseline of
// x86-64 has no instruction for it.
inline uint64_t sums_of_ones(uint64_t word) {
  word -= word >> 1 & 0x5555555555555555u;
  word = (word & 0x3333333333333333u) + (word >> 2 & 0x3333333333333333u);
  word = (word + (word >> 4)) & 0x0F0F0F0F0F0F0F0Fu;
  return word * 0x0101010101010101u;
}

inline uint32_t count_ones(uint64_t word) {
  return static_cast<uint32_t>(sums_of_ones(word) >> 56);
}

// The place of the one before which there are `n` others; `sums` are those of the word, which has
// more than n ones. Source: S. Vigna, "Broadword implementation of rank/select queries", 2008.
inline uint32_t place_of_one(uint64_t word, uint64_t sums, uint32_t n) {
  constexpr uint64_t ones = 0x0101010101010101u, highs = 0x8080808080808080u;
  const uint64_t not_above = (((n * ones) | highs) - sums) & highs;  // bytes whose sum is n at most
  const auto first = static_cast<uint32_t>((not_above >> 7) * ones >> 56) * 8;
  uint64_t byte = word >> first & 0xFF;
  for (n -= static_cast<uint32_t>((sums << 8) >> first & 0xFF); n; --n) byte &= byte - 1;
  return first + static_cast<uint32_t>(std::countr_zero(byte));
}

}  // namespace tinyvox
