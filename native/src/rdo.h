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

// The same codes, for many values of one weight and without a trellis, from a table: where all
// values of a bin, a small part of a step, have one code, the bin has it as its entry.
//
// As all squared errors have the same weight, the values that take a code form an interval, and the
// intervals are in the order of the levels. Bins that the end of an interval is in, or so close to
// that rounding might decide, have no entry. Their values, and those outside the table, are
// compared with the levels one by one, as `choose_codes` does.
class RdoTable {
 public:
  // Nothing where a table cannot be used: the weight has to be positive, costs zero or above, and
  // all of them finite.
  static std::optional<RdoTable> of(const Rdo& rdo, float weight);

  // As `choose_codes`. All `weights` are the weight of the table.
  void choose(std::span<const float> values, std::span<const float> weights,
              std::span<uint8_t> codes) const;

  // The number of values from which on a table takes less time than it saves.
  static size_t least_values(size_t models) { return 1024 * models; }

 private:
  static constexpr int bins_per_step = 64, reach = 128, bins = 2 * reach * bins_per_step;
  static constexpr int16_t open = -1;

  explicit RdoTable(const Rdo& rdo) : rdo_(rdo) {}
  void fill(std::span<const float> cost, float weight, std::span<int16_t> entries) const;

  Rdo rdo_;
  std::vector<int16_t> entries_;  // [models, bins], codes
};

// Columns of a matrix whose errors are compensated for by the columns after them; arrays are
// [columns, rows] where nothing else is said. A code stands for its level times the row's scale.
struct RdoBlock {
  std::span<float> values;         // on return, less what the columns before have spread over them
  std::span<const float> spread;   // [columns, columns], of each column's error over those after it
  std::span<const float> weights;  // [columns]
  std::span<const float> scale;    // [rows]
  std::span<uint8_t> codes;        // written
  std::span<float> errors;         // written, over the diagonal of `spread`
};

// Chooses the codes of each column as `choose_codes` does, values being over the scales, and
// subtracts its error, spread, from the columns after it. Without a trellis.
//
// Source: Frantar et al., "GPTQ", 2022, algorithm 1.
void choose_compensated(const Rdo& rdo, const RdoBlock& block);

}  // namespace tinyvox
