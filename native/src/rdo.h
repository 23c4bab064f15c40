// Codes of a grid chosen by what they cost as well as by how close they come. Only the compressor
// calls this.
//
// Source: Sullivan, "Efficient scalar quantization of exponential and Laplacian random variables",
// 1996 (one code at a time); Marcellin and Fischer, "Trellis coded quantization", 1990, section II
// (a trellis: the Viterbi algorithm).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace tinyvox {

struct Rdo {
  uint32_t entries, zero;          // code c stands for the level c - zero
  bool trellis;                    // as in trellis.h
  std::span<const float> cost;     // [models, entries], of a code; models as in rans.h
  std::span<const uint8_t> group;  // of each row; empty: one
};

// The codes of a column, from the first row to the last, that minimize the sum over its rows of
// weight * (value - level)^2 + cost. Values are in steps of the grid.
void choose_codes(const Rdo& rdo, std::span<const float> values, std::span<const float> weights,
                  std::span<uint8_t> codes);

}  // namespace tinyvox
