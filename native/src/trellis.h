// Trellis-coded quantization: which levels of a grid a code may take, given the codes before it.
//
// There are two quantizers, each twice as coarse as the grid: the even one has the even multiples
// of the step, the odd one has the odd multiples and zero. A state says which of them the next code
// belongs to, and one bit of each code moves the state. So a code costs as many bits as in the
// coarse grid, but the best path through the states is closer to the values than either quantizer
// alone. Every column of a matrix has its own state, which starts at 0 before the first row.
//
// Sources: Marcellin and Fischer, "Trellis coded quantization", 1990; Ungerboeck, "Trellis-coded
// modulation with redundant signal sets, part II", 1987, table I (the code of 8 states); Schwarz et
// al., "Hybrid video coding with trellis-coded quantization", 2019 (the zero in both quantizers).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace tinyvox {

inline constexpr size_t trellis_states = 8;

// The quantizer of a state: 0 for the even one, 1 for the odd one.
inline constexpr uint32_t quantizer_of(uint32_t state) { return state & 1; }

// The next state: Ungerboeck's systematic feedback encoder, parity checks 13 and 04 (octal).
inline constexpr uint8_t next_state(uint32_t state, uint32_t bit) {
  const uint32_t s0 = state & 1, s1 = state >> 1 & 1, s2 = state >> 2;
  return static_cast<uint8_t>((s1 ^ s0) | (s2 ^ bit) << 1 | s0 << 2);
}

// Whether a quantizer has this multiple of the step.
inline constexpr bool has_level(uint32_t quantizer, int level) {
  return quantizer == 0 ? level % 2 == 0 : level % 2 != 0 || level == 0;
}

// The bit of a level that moves the state: whether its place among its quantizer's levels, counted
// from zero outwards, is odd.
inline constexpr uint32_t bit_of(uint32_t quantizer, int level) {
  const int size = level < 0 ? -level : level;
  return static_cast<uint32_t>((size + (quantizer && level ? 1 : 0)) / 2 % 2);
}

// For every code of a grid, the state that follows each state; `none` if the code does not exist in
// that state.
class Trellis {
 public:
  static constexpr uint8_t none = 255;

  // Code c of a grid has the level c - zero.
  Trellis(uint32_t entries, uint32_t zero) {
    for (uint32_t state = 0; state < trellis_states; ++state)
      for (uint32_t code = 0; code < 256; ++code) {
        const int level = static_cast<int>(code) - static_cast<int>(zero);
        const uint32_t quantizer = quantizer_of(state);
        next_[state][code] = code < entries && has_level(quantizer, level)
                                 ? next_state(state, bit_of(quantizer, level))
                                 : none;
      }
  }

  uint8_t next(uint32_t state, uint32_t code) const { return next_[state][code]; }

 private:
  std::array<std::array<uint8_t, 256>, trellis_states> next_;
};

}  // namespace tinyvox
