// LSTM, GRU and plain recurrent layers. The half of the gates that comes from the input does not
// depend on the frame before, so it is computed for several frames at once.
#include <algorithm>
#include <array>

#include "bytes.h"
#include "layers/cell_steps.h"
#include "layers/shapes.h"
#include "layers/type.h"

namespace tinyvox {
namespace {

constexpr Setting settings[] = {{"kind", 0, 5, 0, {.gating = 3, .varying = 3, .signals = 4}},
                                {"gates", 0, 2, varying_version},
                                {"activation", 0, 3, varying_version},
                                {"whether the norm is not carried", 0, 1, signals_version}};
constexpr Slot slots[] = {{"forward.weight_ih", false, true},
                          {"forward.weight_hh", false, true},
                          {"forward.bias", true, true},
                          {"forward.bias_hn", true, true},
                          {"forward.weight_hr", false, true, projecting_version},
                          {"forward.peepholes", true, true, varying_version},
                          {"forward.norm_hh", true, true, signals_version},
                          {"forward.bias_hh", true, true, signals_version},
                          {"forward.norm_cell", true, true, signals_version},
                          {"backward.weight_ih", false, true},
                          {"backward.weight_hh", false, true},
                          {"backward.bias", true, true},
                          {"backward.bias_hn", true, true},
                          {"backward.weight_hr", false, true, projecting_version},
                          {"backward.peepholes", true, true, varying_version},
                          {"backward.norm_hh", true, true, signals_version},
                          {"backward.bias_hh", true, true, signals_version},
                          {"backward.norm_cell", true, true, signals_version}};
constexpr size_t forward_cell = 0, backward_cell = cell_tensors;  // where their tensors begin

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

  Cell(RecurrentKind kind, const CellTensors& tensors, Packer& packer) {
    if (!tensors.weight_hh) return;
    if (tensors.weight_ih) weight_ih = packer.pack(tensors.weight_ih);
    pack_recurrent(kind, tensors.weight_hh, packer);
    bias = tensors.bias.values;
    bias_hn = tensors.bias_hn.values;
    if (tensors.weight_hr) weight_hr = packer.pack(tensors.weight_hr);
    bias_hn.resize(hidden(), 0.0f);
    peepholes = tensors.peepholes.values;
    norm_hh = tensors.norm_hh.values;
    bias_hh = tensors.bias_hh.values;
    norm_cell = tensors.norm_cell.values;
  }

  [[gnu::noinline]] ~Cell() = default;  // large, and called wherever two cells end

  void pack_recurrent(RecurrentKind kind, const Tensor& matrix, Packer& packer) {
    if (kind != RecurrentKind::gru_reset_before) {
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
      : kind_(fields_of<RecurrentFields>(node).kind),
        steps_(fields_of<RecurrentFields>(node)),
        size_(input.size()),
        forward_(kind_, tensors_of<CellTensors>(node, forward_cell), packer),
        backward_(kind_, tensors_of<CellTensors>(node, backward_cell), packer) {}

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

bool has_cell(const Node& node, size_t slot) {
  const auto tensors = std::span(node.tensors).subspan(slot, cell_tensors);
  return std::any_of(tensors.begin(), tensors.end(), [](const Tensor& t) { return bool{t}; });
}

// What normalizes in a cell: norm_hh, bias_hh, norm_cell.
void check_norms(const CellTensors& cell, RecurrentKind kind, uint64_t rows, uint64_t hidden) {
  if (cell.norm_hh && kind == RecurrentKind::gru_reset_before)
    fail("a GRU that resets before has no norm_hh");
  if (cell.norm_hh && cell.bias_hn) fail("a cell with norm_hh has no bias_hn");
  if (cell.bias_hh && !cell.norm_hh) fail("a cell with bias_hh needs norm_hh");
  if (cell.norm_cell && kind != RecurrentKind::lstm) fail("only an LSTM has norm_cell");
  expect_length("norm_hh", cell.norm_hh, rows);
  expect_length("bias_hh", cell.bias_hh, rows);
  expect_length("norm_cell", cell.norm_cell, 2 * hidden);
}

// The size of the hidden state of the cell whose tensors begin at `slot`; 0 if there is no cell.
uint64_t check_cell(const Node& node, size_t slot, RecurrentKind kind, uint64_t size) {
  constexpr uint64_t gates[] = {4, 3, 1, 1, 3, 2};  // by RecurrentKind
  if (!has_cell(node, slot)) return 0;
  const auto cell = tensors_of<CellTensors>(node, slot);
  const Tensor &weight_hh = cell.weight_hh, &weight_hr = cell.weight_hr;
  if (!weight_hh) fail("a cell needs weight_hh");
  const uint64_t hidden = (weight_hr ? weight_hr : weight_hh).columns;
  const uint64_t rows = gates[static_cast<size_t>(kind)] * hidden;
  if (cell.weight_ih)
    expect_shape("weight_ih", cell.weight_ih, rows, size);
  else
    expect("input size of a cell without weight_ih", size, rows);
  expect_shape("weight_hh", weight_hh, rows, weight_hh.columns);
  expect_length("bias", cell.bias, rows);
  expect_length("bias_hn", cell.bias_hn, hidden);
  if (cell.bias_hn && kind != RecurrentKind::gru) fail("only a GRU has bias_hn");
  if (weight_hr && kind != RecurrentKind::lstm) fail("only an LSTM has weight_hr");
  if (weight_hr) expect_shape("weight_hr", weight_hr, weight_hh.columns, hidden);
  if (cell.peepholes && kind != RecurrentKind::lstm) fail("only an LSTM has peepholes");
  expect_length("peepholes", cell.peepholes, 3 * hidden);
  check_norms(cell, kind, rows, hidden);
  return weight_hh.columns;
}

// Only gates have another function than a sigmoid, and only tanh is replaced by another.
void check_functions(const RecurrentFields& fields) {
  const auto kind = fields.kind;
  const bool plain = kind == RecurrentKind::rnn_tanh || kind == RecurrentKind::rnn_relu;
  if (plain && fields.gates != GateFunction::sigmoid)
    fail("only an LSTM or a GRU has a function of its gates");
  if (kind == RecurrentKind::rnn_relu && fields.activation != CellActivation::of_kind)
    fail("a ReLU cell has another activation");
}

Signal infer_recurrent(const Node& node, std::span<const Signal> inputs) {
  const Signal& input = inputs[0];
  const auto fields = fields_of<RecurrentFields>(node);
  check_functions(fields);
  check_eps(fields.eps);
  const uint64_t forward = check_cell(node, forward_cell, fields.kind, flat(input));
  const uint64_t backward = check_cell(node, backward_cell, fields.kind, flat(input));
  if (forward + backward == 0) fail("has no cell, expected one forward, one backward, or both");
  return make_signal(forward + backward, 0, input.stride);
}

void check_matrices(const Node& node, uint32_t version) {
  if (version >= signals_version || node.repeats) return;
  for (size_t slot : {forward_cell, backward_cell}) {
    const auto cell = tensors_of<CellTensors>(node, slot);
    if (has_cell(node, slot) && !(cell.weight_ih && cell.weight_hh))
      fail("a cell needs both weight_ih and weight_hh");
  }
}

}  // namespace

constexpr LayerType layer_types::recurrent{.record = {settings, slots, 1, signals_version},
                                           .infer = infer_recurrent,
                                           .make = make<Recurrent>,
                                           .check = check_matrices};
static_assert(layer_types::recurrent.record.is<RecurrentFields, CellTensors>());

}  // namespace tinyvox
