// The levels of a coded matrix as small integers, and the form in which a kernel takes them.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "file.h"
#include "kernels/kernels.h"

namespace tinyvox {

struct Integers {
  std::vector<int> values;
  float step = 0,
        error = INFINITY;  // the value of one integer step; the squared error over all values
  int exponent = 0;        // of two, by which the step is still to be multiplied

  // In double, which holds the product exactly, so that no part of it underflows.
  float scaled(float scale) const {
    return static_cast<float>(std::ldexp(static_cast<double>(scale) * step, exponent));
  }
};

// The levels that all rows share, as integers of at most `most` in magnitude.
Integers small_table(const Tensor& tensor, int most);

// The levels of a row as integers of at most 127 in magnitude.
Integers row_integers(const Tensor& tensor, uint32_t row);

// The same of one row after the other, found out once for all rows that have the same levels.
class RowIntegers {
 public:
  explicit RowIntegers(const Tensor& tensor) : tensor_(tensor) {}

  const Integers& operator()(size_t row);

 private:
  const Tensor& tensor_;
  std::map<uint32_t, Integers> tables_;
};

struct Choice {
  Form form;
  int32_t offset;     // as in Weights
  size_t strays = 0;  // entries of g4 that 4 bits do not hold
};

// The form of rows [first, first + rows) that takes the least memory among those of the set, then
// the fastest; with `size_alone` any one that takes as much. Empty for floats.
std::optional<Choice> choose_form(const Tensor& tensor, size_t first, size_t rows,
                                  const Kernels& kernels, bool size_alone);

}  // namespace tinyvox
