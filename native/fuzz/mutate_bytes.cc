#include <algorithm>
#include <cstring>

#include "mutate.h"

namespace tinyvox::fuzz {
namespace {

// The ends of what a varint, a code or a count can be.
constexpr uint8_t ends[] = {0, 1, 2, 3, 4, 15, 16, 31, 32, 63, 64, 127, 128, 129, 254, 255};

using Change = void (*)(Bytes& bytes, size_t at, Random& random);

void flip(Bytes& bytes, size_t at, Random& random) { bytes[at] ^= 1u << random.below(8); }

void replace(Bytes& bytes, size_t at, Random& random) {
  bytes[at] = random.one_in(2) ? random.pick(ends) : static_cast<uint8_t>(random.next());
}

void step(Bytes& bytes, size_t at, Random& random) { bytes[at] += random.one_in(2) ? 1 : 255; }

void replace_float(Bytes& bytes, size_t at, Random& random) {
  const float value = random.extreme();
  std::memcpy(&bytes[at], &value, std::min(sizeof value, bytes.size() - at));
}

// A varint of three bytes or more.
void enlarge(Bytes& bytes, size_t at, Random& random) {
  Bytes number(random.between(2, 5), 0xFF);
  number.back() = static_cast<uint8_t>(random.below(128));
  bytes.insert(bytes.begin() + static_cast<ptrdiff_t>(at), number.begin(), number.end());
}

void insert(Bytes& bytes, size_t at, Random& random) {
  bytes.insert(bytes.begin() + static_cast<ptrdiff_t>(at), random.size(8), random.pick(ends));
}

void erase(Bytes& bytes, size_t at, Random& random) {
  const size_t count = std::min<size_t>(random.size(16), bytes.size() - at);
  const auto first = bytes.begin() + static_cast<ptrdiff_t>(at);
  bytes.erase(first, first + static_cast<ptrdiff_t>(count));
}

void repeat(Bytes& bytes, size_t at, Random& random) {
  const size_t count = std::min<size_t>(random.size(64), bytes.size() - at);
  const auto first = bytes.begin() + static_cast<ptrdiff_t>(at);
  const Bytes part(first, first + static_cast<ptrdiff_t>(count));
  const auto to = static_cast<ptrdiff_t>(random.below(bytes.size() + 1));
  bytes.insert(bytes.begin() + to, part.begin(), part.end());
}

void cut(Bytes& bytes, size_t at, Random&) { bytes.resize(at); }

constexpr Change changes[] = {flip, flip,   replace, replace, step,   replace_float,
                              cut,  insert, erase,   repeat,  enlarge};

}  // namespace

void mutate_bytes(Bytes& bytes, Random& random) {
  for (uint32_t left = random.size(4); left > 0 && !bytes.empty(); --left)
    random.pick(changes)(bytes, random.below(bytes.size()), random);
}

}  // namespace tinyvox::fuzz
