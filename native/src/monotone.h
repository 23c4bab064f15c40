// A sequence of numbers that never fall, in blocks of 128 that are each coded by Elias and Fano's
// method. Sources: P. Elias, "Efficient storage and retrieval by content and address of static
// files", 1974; G. Ottaviano and R. Venturini, "Partitioned Elias-Fano indexes", 2014.
//
//   for each block, and once more for the end: u64 = base | offset << 36
//   for each block: for each number, its low bits | padding to a byte | high parts | padding
//
// `base` is the last number of the block before, 0 for the first; `offset` is where the block's
// bytes begin. A block of n numbers from `base` to `base of the next` = base + range has
// l = floor(log2(range / n)) low bits, none if range < n. Of each number less the base the lowest
// l bits are packed first; the rest are unary: as many zeros as it is above that of the number
// before, then a one.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "bytes.h"

namespace tinyvox {

class Monotone {
 public:
  static constexpr uint32_t block = 128;

  // A sequence of `count` numbers at the reader's position, which moves past it. Raises FormatError
  // unless every block has its place, its size and as many high parts as numbers. Whatever the low
  // bits are, the functions below read inside of the sequence, or up to eight bytes beyond.
  static Monotone read(Reader& reader, uint64_t count);

  uint64_t count() const { return count_; }
  uint64_t last() const { return count_ ? base(blocks()) : 0; }

  // The number at a place below count(), and that before a place; before the first it is 0.
  uint64_t at(uint64_t place) const;
  uint64_t before(uint64_t place) const {
    return place % block ? at(place - 1) : base(place / block);
  }

  // Both: before(place) and at(place).
  struct Range {
    uint64_t begin, end;
  };
  Range range(uint64_t place) const;

  // The place in [begin, end), which is not empty, of a number that is `value`. What is before
  // `begin` must not be above it.
  std::optional<uint64_t> find(uint64_t begin, uint64_t end, uint64_t value) const;

 private:
  struct Block;

  uint64_t blocks() const { return (count_ + block - 1) / block; }
  uint64_t base(uint64_t which) const;
  uint64_t offset(uint64_t which) const;
  Block open(uint64_t which) const;
  void check(uint64_t which) const;

  const uint8_t* headers_ = nullptr;
  const uint8_t* data_ = nullptr;
  uint64_t count_ = 0;
};

}  // namespace tinyvox
