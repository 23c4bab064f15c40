// Entropy-constrained quantization: chooses the codes of a grid by their error and by their cost in
// bits (rate-distortion optimization). Only the compressor calls this.
//
// Sources: Sullivan, "Efficient scalar quantization of exponential and Laplacian random variables",
// 1996 (one code at a time); Marcellin and Fischer, "Trellis coded quantization", 1990, section II
// (with a trellis: the Viterbi algorithm).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace tinyvox {

struct Rdo {
  uint32_t entries, zero;          // code c has the level c - zero
  bool trellis;                    // as in trellis.h
  std::span<const float> cost;     // of each code, [models, entries]; models as in rans.h
  std::span<const uint8_t> group;  // of each row; empty: one group
};

// Finds the codes of a column that minimize the sum over its rows of
// weight * (value - level)^2 + cost. Values are in steps of the grid.
void choose_codes(const Rdo& rdo, std::span<const float> values, std::span<const float> weights,
                  std::span<uint8_t> codes);

// The same codes for many values that have one weight, without a trellis: a table tells the code of
// all values between two thirty-seconds of a step, where they have one code.
//
// As all squared errors have one weight, the codes that win anywhere win on intervals, which lie in
// the order of the levels. Bins near the end of an interval, where rounding might decide, have no
// entry; `choose_codes` decides there, and outside the table.
class RdoTable {
 public:
  // Nothing where weights or costs are not what a table takes: positive, zero or above, finite.
  static std::optional<RdoTable> of(const Rdo& rdo, float weight);

  // As `choose_codes`; every one of `weights` is the weight of the table.
  void choose(std::span<const float> values, std::span<const float> weights,
              std::span<uint8_t> codes) const;

  // Values from which on a table pays.
  static size_t pays(size_t models) { return bins * models; }

 private:
  static constexpr int bins_per_step = 32, reach = 128, bins = 2 * reach * bins_per_step;
  static constexpr int16_t open = -1;

  explicit RdoTable(const Rdo& rdo) : rdo_(rdo) {}
  void fill(std::span<const float> cost, float weight, std::span<int16_t> entries) const;

  Rdo rdo_;
  std::vector<int16_t> entries_;  // [models, bins], codes
};

}  // namespace tinyvox
