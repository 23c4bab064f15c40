// LSTM, GRU and plain recurrent layers. The half of the gates that comes from the input does not
// depend on the frame before, so it is computed for several frames at once.
#include <algorithm>
#include <array>

#include "cell_steps.h"
#include "layers.h"

namespace tinyvox {
namespace {

struct Cell {
  PackedMatrix weight_ih;  // absent if the input is what it would give
  PackedMatrix weight_hh;
  PackedMatrix weight_hn;               // of a GRU that resets before: the rows of the new gate
  PackedMatrix weight_hr;               // of a projected LSTM
  std::vector<float> bias;              // [gates * hidden], or empty
  std::vector<float> bias_hn;           // [hidden], of a GRU
  std::vector<float> peepholes;         // [3 * hidden], or empty
  std::vector<float> norm_hh, bias_hh;  // [gates * hidden], or empty
  std::vector<float> norm_cell;         // [2 * hidden], or empty

  Cell(const Node& node, size_t slot, Packer& packer) {
    if (!node.tensors[slot + 1]) return;
    if (node.tensors[slot]) weight_ih = packer.pack(node.tensors[slot]);
    pack_recurrent(node, node.tensors[slot + 1], packer);
    bias = node.tensors[slot + 2].values;
    bias_hn = node.tensors[slot + 3].values;
    if (node.tensors[slot + 4]) weight_hr = packer.pack(node.tensors[slot + 4]);
    bias_hn.resize(hidden(), 0.0f);
    peepholes = node.tensors[slot + 5].values;
    norm_hh = node.tensors[slot + 6].values;
    bias_hh = node.tensors[slot + 7].values;
    norm_cell = node.tensors[slot + 8].values;
  }

  void pack_recurrent(const Node& node, const Tensor& matrix, Packer& packer) {
    if (static_cast<RecurrentKind>(node.ints[0]) != RecurrentKind::gru_reset_before) {
      weight_hh = packer.pack(matrix);
      return;
    }
    const size_t hidden = matrix.columns;
    std::vector<PackedMatrix> parts = packer.split_rows(matrix, {2 * hidden, hidden});
    weight_hh = std::move(parts[0]);
    weight_hn = std::move(parts[1]);
  }

  explicit operator bool() const { return static_cast<bool>(weight_hh); }
  size_t hidden() const { return weight_hr ? weight_hr.columns() : size(); }
  size_t size() const { return weight_hh ? weight_hh.columns() : 0; }  // of the hidden state
  size_t rows() const {
    return weight_hh ? weight_hh.rows() + (weight_hn ? weight_hn.rows() : 0) : 0;
  }
  size_t bytes() const {
    size_t total = 0;
    for (const auto* vector : {&bias, &bias_hn, &peepholes, &norm_hh, &bias_hh, &norm_cell})
      total += vector->size() * sizeof(float);
    for (const PackedMatrix* matrix : matrices()) total += matrix->bytes();
    return total;
  }
  size_t products() const {
    size_t total = 0;
    for (const PackedMatrix* matrix : matrices()) total += matrix->products();
    return total;
  }
  std::array<const PackedMatrix*, 4> matrices() const {
    return {&weight_ih, &weight_hh, &weight_hn, &weight_hr};
  }
};

class Recurrent : public Layer {
 public:
  Recurrent(const Node& node, const Signal& input, Packer& packer)
      : kind_(static_cast<RecurrentKind>(node.ints[0])),
        steps_(node),
        size_(input.size()),
        forward_(node, 0, packer),
        backward_(node, cell_tensors, packer) {}

  Window window() const override {
    Window window;
    window.whole = static_cast<bool>(backward_);
    return window;
  }
  size_t state_size() const override {
    return std::max(forward_.size(), backward_.size()) +
           std::max(forward_.hidden(), backward_.hidden());
  }
  size_t scratch_size() const override {
    return (max_frames + 1) * std::max(forward_.rows(), backward_.rows()) +
           std::max(forward_.hidden(), backward_.hidden());
  }
  size_t bytes() const override { return forward_.bytes() + backward_.bytes(); }
  size_t products() const override { return forward_.products() + backward_.products(); }
  void reserve(MatrixWork& work) const override {
    for (const Cell* cell : {&forward_, &backward_})
      for (const PackedMatrix* matrix : cell->matrices()) matrix->reserve(work);
  }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float* state,
           Work& work) const override {
    if (forward_)
      for (size_t first = 0; first < frames; first += max_frames)
        run_cell(forward_, inputs[0], first, std::min(max_frames, frames - first), false, out,
                 state, work);
    if (!backward_) return;
    std::fill_n(state, state_size(), 0.0f);
    for (size_t left = frames; left > 0;) {
      const size_t some = std::min(max_frames, left);
      left -= some;
      run_cell(backward_, inputs[0], left, some, true, out + forward_.size(), state, work);
    }
  }

 private:
  // Computes frames [first, first + frames) of `frames_in`, forwards or backwards in time.
  void run_cell(const Cell& cell, const float* frames_in, size_t first, size_t frames, bool reverse,
                float* out, float* state, Work& work) const {
    const size_t stride = forward_.size() + backward_.size();
    float* from_input = work.scratch.data();
    float* from_hidden = from_input + max_frames * cell.rows();
    float* between = from_hidden + cell.rows();  // the unprojected or the reset state
    if (cell.weight_ih) {
      cell.weight_ih.apply(frames_in + first * size_, frames, from_input, work.matrix,
                           {cell.bias.empty() ? nullptr : cell.bias.data()});
    } else {
      std::copy_n(frames_in + first * size_, frames * size_, from_input);
      add_bias(cell.bias, frames, from_input);
    }
    for (size_t i = 0; i < frames; ++i) {
      const size_t frame = reverse ? frames - 1 - i : i;
      cell.weight_hh.apply(state, 1, from_hidden, work.matrix);
      if (!cell.norm_hh.empty()) steps_.normalize(cell.bias_hh, cell.norm_hh, from_hidden);
      float* units = cell.weight_hr ? between : state;
      const float* x = from_input + frame * cell.rows();
      if (cell.weight_hn)
        step_after_reset(cell, x, from_hidden, between, state, work);
      else if (plain(cell))
        step(cell, x, from_hidden, state + cell.size(), units, work.kernels);
      else
        step_by_parts(cell, x, from_hidden, state + cell.size(), units, work.kernels);
      if (cell.weight_hr) cell.weight_hr.apply(units, 1, state, work.matrix);
      std::copy_n(state, cell.size(), out + (first + frame) * stride);
    }
  }

  // Whether a kernel computes the whole step.
  bool plain(const Cell& cell) const {
    return steps_.plain() && cell.peepholes.empty() && cell.norm_cell.empty() &&
           kind_ != RecurrentKind::li_gru;
  }

  // `memory` is the LSTM's cell state. `state` is the hidden state before the step, if the layer
  // reads it, and the output of the units after it.
  void step(const Cell& cell, const float* x, const float* h, float* memory, float* state,
            const Kernels& kernels) const {
    const size_t hidden = cell.hidden();
    switch (kind_) {
      case RecurrentKind::lstm:
        return kernels.lstm_f32(x, h, hidden, memory, state);
      case RecurrentKind::gru:
        return kernels.gru_f32(x, h, cell.bias_hn.data(), hidden, state);
      case RecurrentKind::rnn_tanh:
        return kernels.rnn_tanh_f32(x, h, hidden, state);
      case RecurrentKind::rnn_relu:
        for (size_t i = 0; i < hidden; ++i) state[i] = std::max(x[i] + h[i], 0.0f);
        return;
      case RecurrentKind::gru_reset_before:
        return;  // step_after_reset
      case RecurrentKind::li_gru:
        return;  // step_by_parts
    }
  }

  // The same with other functions, peepholes or norms.
  void step_by_parts(const Cell& cell, const float* x, float* h, float* memory, float* state,
                     const Kernels& kernels) const {
    const size_t hidden = cell.hidden();
    if (kind_ == RecurrentKind::lstm)
      steps_.lstm(x, h, cell.peepholes, cell.norm_cell, hidden, memory, state, kernels);
    else if (kind_ == RecurrentKind::gru)
      steps_.gru(x, h, cell.bias_hn.data(), hidden, state, kernels);
    else if (kind_ == RecurrentKind::li_gru)
      steps_.li_gru(x, h, hidden, state, kernels);
    else
      steps_.rnn(x, h, hidden, state, kernels);
  }

  void step_after_reset(const Cell& cell, const float* x, float* h, float* reset, float* state,
                        Work& work) const {
    const size_t hidden = cell.hidden();
    steps_.reset(x, h, hidden, state, reset, work.kernels);
    cell.weight_hn.apply(reset, 1, h + 2 * hidden, work.matrix);
    steps_.renew(x, h, hidden, state, work.kernels);
  }

  RecurrentKind kind_;
  CellSteps steps_;
  size_t size_;
  Cell forward_, backward_;
};

}  // namespace

std::unique_ptr<Layer> make_recurrent(const Node& node, const Signal& input, Packer& packer) {
  return std::make_unique<Recurrent>(node, input, packer);
}

}  // namespace tinyvox
