#include "monotone.h"

#include <algorithm>
#include <bit>

#include "bits.h"

namespace tinyvox {
namespace {

constexpr uint32_t base_bits = 36;

// Of `bits`, the place of the bit `wanted` before which there are n like it; `bits` if there is
// none.
template <bool wanted>
uint64_t place_of(const uint8_t* bytes, uint64_t bits, uint32_t n) {
  for (uint64_t at = 0; at < bits; at += 64) {
    const uint64_t word = wanted ? load_u64(bytes + at / 8) : ~load_u64(bytes + at / 8);
    const uint64_t sums = sums_of_ones(word);
    const auto count = static_cast<uint32_t>(sums >> 56);
    if (n < count) return std::min(at + place_of_one(word, sums, n), bits);
    n -= count;
  }
  return bits;
}

bool bit_at(const uint8_t* bytes, uint64_t at) { return bytes[at / 8] >> at % 8 & 1; }

}  // namespace

struct Monotone::Block {
  uint64_t base, range;
  uint32_t size, low_bits;
  const uint8_t* lows;
  const uint8_t* highs;

  uint64_t high_bits() const { return size + (range >> low_bits); }
  uint64_t low_bytes() const { return (uint64_t{size} * low_bits + 7) / 8; }
  uint64_t bytes() const { return low_bytes() + (high_bits() + 7) / 8; }
  // The number at a place, whose one is at this place among the high parts.
  uint64_t number(uint32_t place, uint64_t one) const {
    return base + ((one - place) << low_bits | low(place));
  }
  uint64_t low(uint32_t place) const {
    return load_bits(lows, uint64_t{place} * low_bits, low_bits);
  }
};

uint64_t Monotone::base(uint64_t which) const {
  return load_u64(headers_ + 8 * which) & ((uint64_t{1} << base_bits) - 1);
}

uint64_t Monotone::offset(uint64_t which) const {
  return load_u64(headers_ + 8 * which) >> base_bits;
}

Monotone::Block Monotone::open(uint64_t which) const {
  Block result;
  result.base = base(which);
  result.range = base(which + 1) - result.base;
  result.size = static_cast<uint32_t>(std::min<uint64_t>(block, count_ - which * block));
  const uint64_t mean = result.range / result.size;
  result.low_bits = mean ? static_cast<uint32_t>(std::bit_width(mean)) - 1 : 0;
  result.lows = data_ + offset(which);
  result.highs = result.lows + result.low_bytes();
  return result;
}

Monotone Monotone::read(Reader& reader, uint64_t count) {
  Monotone result;
  result.count_ = count;
  const uint64_t blocks = result.blocks();
  result.headers_ = reader.take(8 * (blocks + 1)).data();
  const uint64_t bytes = result.offset(blocks);
  if (result.offset(0) != 0 || result.base(0) != 0) fail("a sequence does not begin with 0");
  result.data_ = reader.take(bytes).data();
  for (uint64_t which = 0; which < blocks; ++which) result.check(which);
  return result;
}

// Blocks before this one have been checked, so it begins inside of the bytes.
void Monotone::check(uint64_t which) const {
  if (base(which + 1) < base(which)) fail("a sequence falls");
  const Block found = open(which);
  const uint64_t end = offset(blocks());
  if (offset(which) > end || found.bytes() > end - offset(which) ||
      offset(which) + found.bytes() != offset(which + 1))
    fail("a block of a sequence does not have the size that its range needs");
  uint64_t ones = 0;
  for (uint64_t at = 0; at < found.high_bits(); at += 64) {
    const uint64_t left = found.high_bits() - at;
    const uint64_t word = load_u64(found.highs + at / 8);
    ones += count_ones(left < 64 ? word & ((uint64_t{1} << left) - 1) : word);
  }
  if (ones != found.size || !bit_at(found.highs, found.high_bits() - 1))
    fail("a block of a sequence does not have as many numbers as expected");
}

uint64_t Monotone::at(uint64_t place) const {
  const Block in = open(place / block);
  const auto rest = static_cast<uint32_t>(place % block);
  return in.number(rest, place_of<true>(in.highs, in.high_bits(), rest));
}

Monotone::Range Monotone::range(uint64_t place) const {
  if (place % block == 0) return {base(place / block), at(place)};
  const Block in = open(place / block);
  const auto rest = static_cast<uint32_t>(place % block);
  const uint64_t one = place_of<true>(in.highs, in.high_bits(), rest - 1);
  uint64_t next = one + 1;
  while (next + 1 < in.high_bits() && !bit_at(in.highs, next)) ++next;
  return {in.number(rest - 1, one), in.number(rest, next)};
}

std::optional<uint64_t> Monotone::find(uint64_t begin, uint64_t end, uint64_t value) const {
  uint64_t which = begin / block, last = (end - 1) / block;
  while (which < last) {  // the first block that does not end below the value
    const uint64_t middle = (which + last) / 2;
    if (base(middle + 1) < value)
      which = middle + 1;
    else
      last = middle;
  }
  const Block in = open(which);
  if (value < in.base || value - in.base > in.range) return std::nullopt;
  const uint64_t wanted = value - in.base, high = wanted >> in.low_bits;
  const uint64_t low = wanted & ((uint64_t{1} << in.low_bits) - 1);
  const auto zeros = static_cast<uint32_t>(high);
  uint64_t at = high ? place_of<false>(in.highs, in.high_bits(), zeros - 1) + 1 : 0;
  // Those of the same high part stand side by side.
  for (uint64_t place = which * block + at - high; at < in.high_bits(); ++at, ++place) {
    if (place >= end || !bit_at(in.highs, at)) return std::nullopt;
    const uint64_t found = in.low(static_cast<uint32_t>(place % block));
    if (found > low) return std::nullopt;
    if (found == low && place >= begin) return place;
  }
  return std::nullopt;
}

}  // namespace tinyvox
