// Entropy-constrained quantization: chooses the codes of a grid by their error and by their cost in
// bits (rate-distortion optimization). Only the compressor calls this.
//
// Sources: Sullivan, "Efficient scalar quantization of exponential and Laplacian random variables",
// 1996 (one code at a time); Marcellin and Fischer, "Trellis coded quantization", 1990, section II
// (with a trellis: the Viterbi algorithm).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

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

}  // namespace tinyvox
