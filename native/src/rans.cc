#include "rans.h"

#include <algorithm>
#include <array>

#include "bytes.h"

namespace tinyvox {
namespace {

constexpr uint32_t probability_bits = 12;
constexpr uint32_t total = 1u << probability_bits;
constexpr uint32_t low = 1u << 16;  // states are at least this between two codes
constexpr size_t lanes = 8;

using Frequencies = std::array<uint32_t, 256>;
using States = std::array<uint32_t, lanes>;

std::array<uint64_t, 256> count(std::span<const uint8_t> codes) {
  std::array<uint64_t, 256> counts{};
  for (uint8_t code : codes) ++counts[code];
  return counts;
}

// The symbol of all that pass `may` for which counts[s] / (2 f[s] + shift) is greatest, or with
// `least` smallest; as integers, so that every machine chooses alike.
template <bool least, typename May>
size_t choose(const std::array<uint64_t, 256>& counts, const Frequencies& f, int shift, May may) {
  size_t best = 256;
  for (size_t s = 0; s < 256; ++s) {
    if (!may(s)) continue;
    if (best < 256) {
      const uint64_t mine = counts[s] * (2 * f[best] + shift);
      const uint64_t other = counts[best] * (2 * f[s] + shift);
      if (least ? mine >= other : mine <= other) continue;
    }
    best = s;
  }
  return best;
}

// Frequencies that sum to `total`, at least 1 for each symbol that occurs. After rounding, single
// steps go where they cost least: from f to f + 1 saves counts[s] * log((f + 1) / f) bits, which is
// nearly counts[s] / (f + 1/2).
Frequencies normalise(const std::array<uint64_t, 256>& counts, uint64_t codes) {
  Frequencies f{};
  if (codes == 0) f[0] = total;
  uint32_t sum = f[0];
  for (size_t s = 0; s < 256; ++s) {
    if (counts[s]) f[s] = std::max<uint32_t>(1, static_cast<uint32_t>(counts[s] * total / codes));
    if (codes) sum += f[s];
  }
  for (; sum < total; ++sum)
    ++f[choose<false>(counts, f, 1, [&](size_t s) { return counts[s] > 0; })];
  for (; sum > total; --sum) --f[choose<true>(counts, f, -1, [&](size_t s) { return f[s] > 1; })];
  return f;
}

void put_varint(std::vector<uint8_t>& out, uint32_t value) {
  for (; value > 127; value >>= 7) out.push_back(static_cast<uint8_t>(value | 128));
  out.push_back(static_cast<uint8_t>(value));
}

void put(std::vector<uint8_t>& out, uint32_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) out.push_back(static_cast<uint8_t>(value >> 8 * i));
}

// The last code first; `words` come out in the reverse of the order in which they are read.
States encode(std::span<const uint8_t> codes, const Frequencies& f, std::vector<uint16_t>& words) {
  Frequencies start{};
  for (size_t s = 1; s < 256; ++s) start[s] = start[s - 1] + f[s - 1];
  States states;
  states.fill(low);
  for (size_t i = codes.size(); i-- > 0;) {
    uint32_t& x = states[i % lanes];
    const uint32_t s = codes[i];
    if (x >= static_cast<uint64_t>(f[s]) << (32 - probability_bits)) {
      words.push_back(static_cast<uint16_t>(x));
      x >>= 16;
    }
    x = ((x / f[s]) << probability_bits) + x % f[s] + start[s];
  }
  return states;
}

// What a slot of the probability range decodes to, packed so that one load gives all of it:
//
//   31         20 19               8 7        0
//    place in the  frequency less 1   symbol
//    symbol's range
using Slots = std::array<uint32_t, total>;

void read_slots(Reader& reader, uint32_t entries, Slots& slots) {
  uint32_t slot = 0;
  for (uint32_t s = 0; s < entries; ++s) {
    const uint32_t frequency = reader.varint("frequency of a code", 0, total - slot);
    for (uint32_t place = 0; place < frequency; ++place)
      slots[slot++] = place << 20 | (frequency - 1) << 8 | s;
  }
  if (slot != total)
    fail("frequencies of codes sum to " + std::to_string(slot) + ", expected " +
         std::to_string(total));
}

inline uint8_t step(const Slots& slots, uint32_t& x) {
  const uint32_t slot = slots[x % total];
  x = ((slot >> 8 & (total - 1)) + 1) * (x >> probability_bits) + (slot >> 20);
  return static_cast<uint8_t>(slot);
}

// Eight codes read at most eight words: while that many are left there is nothing to check, and
// nothing branches on the data. Returns the number of codes written, and moves `words` on.
size_t decode_rounds(const Slots& slots, States& states, std::span<const uint8_t>& words,
                     std::span<uint8_t> codes) {
  const uint8_t* next = words.data();
  const uint8_t* const end = next + words.size();
  States x = states;  // a local copy stays in registers
  size_t i = 0;
  for (; i + lanes <= codes.size() && static_cast<size_t>(end - next) >= 2 * lanes; i += lanes) {
    for (size_t lane = 0; lane < lanes; ++lane) {
      codes[i + lane] = step(slots, x[lane]);
      // Written so that no compiler makes a branch of it: the branch would be a coin toss.
      const uint32_t refill = x[lane] < low;
      const uint32_t refilled = x[lane] << 16 | load_u16(next);
      x[lane] ^= (x[lane] ^ refilled) & (0 - refill);
      next += 2 * refill;
    }
  }
  states = x;
  words = words.last(static_cast<size_t>(end - next));
  return i;
}

}  // namespace

std::vector<uint8_t> rans_encode(std::span<const uint8_t> codes, uint32_t entries) {
  const Frequencies f = normalise(count(codes), codes.size());
  std::vector<uint16_t> words;
  const States states = encode(codes, f, words);
  std::vector<uint8_t> out;
  out.reserve(2 * entries + sizeof states + 2 * words.size());
  for (uint32_t s = 0; s < entries; ++s) put_varint(out, f[s]);
  for (uint32_t x : states) put(out, x, 4);
  for (auto word = words.rbegin(); word != words.rend(); ++word) put(out, *word, 2);
  return out;
}

void rans_decode(std::span<const uint8_t> bytes, uint32_t entries, std::span<uint8_t> codes) {
  Reader reader(bytes);
  Slots slots;
  read_slots(reader, entries, slots);
  States states;
  for (uint32_t& x : states) {
    x = reader.u32();
    if (x < low) fail("a state of the entropy coder is out of its range");
  }
  std::span<const uint8_t> words = reader.take(reader.left());
  size_t i = decode_rounds(slots, states, words, codes);
  Reader tail(words);
  for (; i < codes.size(); ++i) {
    uint32_t& x = states[i % lanes];
    codes[i] = step(slots, x);
    if (x < low) x = x << 16 | load_u16(tail.take(2).data());
  }
  tail.finish();
  for (uint32_t x : states)
    if (x != low) fail("the coded weights do not end where they should");
}

}  // namespace tinyvox
