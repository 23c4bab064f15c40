// Steps of the recurrent cells that have no kernel of their own: with other functions, with
// peepholes, with norms, or with a reset gate before the recurrent matrix. They are made of the
// kernels of sigmoid and tanh and of plain loops, so they give the same result on every instruction
// set.
#pragma once

#include <span>

#include "kernels/kernels.h"
#include "layers/fields.h"

namespace tinyvox {

// The functions of the cells of a layer. As in the kernels of whole steps, `x` is the input's part
// of the gates, with the bias, and `h` the hidden state's part; here `h` is overwritten.
class CellSteps {
 public:
  explicit CellSteps(const RecurrentFields& fields)
      : gate_(fields.gates),
        bend_(fields.activation),
        carries_norm_(!fields.norm_not_carried),
        eps_(fields.eps) {}

  // Whether the functions are those of the kernels.
  bool plain() const { return gate_ == GateFunction::sigmoid && bend_ == CellActivation::of_kind; }

  // The hidden state's part, with this bias or none, at mean 0 and variance 1, times the norm.
  void normalize(std::span<const float> bias, std::span<const float> norm, float* h) const;

  // `peepholes` are [3 * hidden] or empty, `norm` [2 * hidden] or empty, `bias_hn` [hidden].
  void lstm(const float* x, float* h, std::span<const float> peepholes, std::span<const float> norm,
            size_t hidden, float* memory, float* state, const Kernels& kernels) const;
  void gru(const float* x, float* h, const float* bias_hn, size_t hidden, float* state,
           const Kernels& kernels) const;
  void rnn(const float* x, const float* h, size_t hidden, float* state,
           const Kernels& kernels) const;
  void li_gru(const float* x, float* h, size_t hidden, float* state, const Kernels& kernels) const;

  // A GRU that resets before: the first half of a step takes `h` of the gates and writes the
  // `reset` state; the second half takes the product of that, which is the third part of `h`.
  void reset(const float* x, float* h, size_t hidden, const float* state, float* reset,
             const Kernels& kernels) const;
  void renew(const float* x, float* h, size_t hidden, float* state, const Kernels& kernels) const;

 private:
  void gate(float* x, size_t size, const Kernels& kernels) const;
  void bend(float* x, size_t size, const Kernels& kernels) const;
  void normalize_cell(std::span<const float> norm, size_t hidden, float* cell) const;

  GateFunction gate_;
  CellActivation bend_;
  bool carries_norm_;  // of an LSTM: the next step sees the normalized state of the cell
  float eps_;
};

}  // namespace tinyvox
