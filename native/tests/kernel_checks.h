// What the checks of kernels have in common: random values, and how a wrong one is told.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace tinyvox {

using Values = std::vector<float>;

inline std::mt19937 bits;

// The distributions of <random> differ between libraries, so they are not used.
inline float uniform(float least, float most) {
  return least + static_cast<float>(bits() >> 8) * 0x1p-24f * (most - least);
}

inline Values uniforms(size_t count, float most) {
  Values values(count);
  for (float& value : values) value = uniform(-most, most);
  return values;
}

// The name of the check, for the message.
struct Case {
  const Kernels& set;
  std::string what;
  size_t rows, columns, frames;
};

inline size_t checked = 0;

[[noreturn]] inline void fail_case(const Case& now, size_t index, double found, double expected) {
  std::printf("%s: %s, %zu rows, %zu columns, %zu frames: value %zu is %.9g, expected %.9g\n",
              now.set.isa, now.what.c_str(), now.rows, now.columns, now.frames, index, found,
              expected);
  std::exit(1);
}

// `found` must equal the beginning of `expected`; +0 and -0 differ.
template <typename T>
void expect_same(const Case& now, const std::vector<T>& found, const std::vector<T>& expected) {
  for (size_t i = 0; i < found.size(); ++i, ++checked)
    if (found[i] != expected[i] || std::signbit(found[i]) != std::signbit(expected[i]))
      fail_case(now, i, found[i], expected[i]);
}

inline void expect_within(const Case& now, size_t index, double found, double expected,
                          double bound) {
  if (!(std::abs(found - expected) <= bound)) fail_case(now, index, found, expected);
}

// Products of coded and dense matrices; of all pairs of these sizes, and of what is special.
void check_matrices(const Kernels& set, std::span<const size_t> sizes);
// All other kernels, which take vectors of this size.
void check_vectors(const Kernels& set, size_t size);

}  // namespace tinyvox
