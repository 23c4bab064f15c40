// Random choices that depend on the seed alone: the distributions of <random> differ between
// libraries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

namespace tinyvox::fuzz {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  // Steele et al., "Fast splittable pseudorandom number generators", 2014 (splitmix64).
  uint64_t next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
  }

  // 0 to `count` - 1; 0 if `count` is 0.
  uint32_t below(uint64_t count) {
    return static_cast<uint32_t>(count ? (next() >> 32) * count >> 32 : 0);
  }
  uint32_t between(uint32_t least, uint32_t most) { return least + below(most - least + 1); }
  bool one_in(uint32_t count) { return below(count) == 0; }

  // [-most, most)
  float real(float most) { return (static_cast<float>(next() >> 40) * 0x1p-23f - 1.0f) * most; }

  template <typename Values>
  auto& pick(Values& values) {
    return values[below(std::size(values))];
  }

  // A size, small ones more often than large ones: most faults need few values.
  uint32_t size(uint32_t most) { return between(1, between(1, most)); }

  // A number that arithmetic may not expect: at the ends of float32, float16 and int8, subnormal,
  // or not a number at all, which every reader has to refuse.
  float extreme() {
    using Limits = std::numeric_limits<float>;
    constexpr float values[] = {
        0.0f,  -0.0f,         1.0f,   127.5f, 65504.0f, 65520.0f,
        6e-8f, Limits::max(), 3e38f,  -3e38f, 1e30f,    -1e21f,
        1e10f, Limits::min(), 1e-35f, 1e-40f, -1e-43f,  Limits::denorm_min()};
    constexpr float unusable[] = {Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN()};
    return one_in(40) ? pick(unusable) : pick(values);
  }

 private:
  uint64_t state_;
};

}  // namespace tinyvox::fuzz
