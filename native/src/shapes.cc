#include "shapes.h"

#include <algorithm>
#include <string>

#include "bytes.h"

namespace tinyvox {
namespace {

void expect(const std::string& what, uint64_t found, uint64_t expected) {
  if (found != expected)
    fail(what + " is " + std::to_string(found) + ", expected " + std::to_string(expected));
}

std::string shape(uint64_t rows, uint64_t columns) {
  return std::to_string(rows) + " x " + std::to_string(columns);
}

void expect_shape(const char* what, const Tensor& matrix, uint64_t rows, uint64_t columns) {
  if (matrix.rows != rows || matrix.columns != columns)
    fail(std::string(what) + " is " + shape(matrix.rows, matrix.columns) + ", expected " +
         shape(rows, columns));
}

void expect_length(const char* what, const Tensor& vector, uint64_t length) {
  if (vector) expect(std::string(what) + " length", vector.rows, length);
}

uint64_t flat(const Signal& input) {
  if (input.bands)
    fail("takes flat frames, found " + shape(input.channels, input.bands) + "; add a Flatten");
  return input.channels;
}

Signal make_signal(uint64_t channels, uint64_t bands, uint64_t stride) {
  // Check each factor first, so that the product of two of them fits 64 bits.
  const bool fits = channels <= max_signal && bands <= max_signal &&
                    channels * std::max<uint64_t>(1, bands) <= max_signal;
  if (!fits) fail("puts out more than 2^20 values a frame");
  if (stride > max_signal) fail("needs more than 2^20 input frames a frame");
  return {static_cast<uint32_t>(channels), static_cast<uint32_t>(bands),
          static_cast<uint32_t>(stride)};
}

uint64_t stride_of(const Signal& input, uint32_t factor) {
  return static_cast<uint64_t>(input.stride) * factor;
}

// Frames or bands from the first to the last that a kernel reads.
uint64_t reach_of(uint32_t kernel, uint32_t dilation) {
  return static_cast<uint64_t>(kernel - 1) * dilation + 1;
}

// Bands of which those around are padding, for a kernel that moves over them.
uint64_t bands_after(uint64_t bands, uint64_t reach, uint32_t stride) {
  if (bands < reach)
    fail("a kernel of " + std::to_string(reach) + " bands does not fit " + std::to_string(bands));
  return (bands - reach) / stride + 1;
}

Signal infer_linear(const Node& node, const Signal& input) {
  const Tensor& weight = node.tensors[0];
  expect("input size", flat(input), weight.columns);
  expect_length("bias", node.tensors[1], weight.rows);
  return make_signal(weight.rows, 0, input.stride);
}

void check_eps(const Node& node) {
  if (node.floats[0] < 0) fail("eps is below 0");
}

// What normalizes in a cell: norm_hh, bias_hh, norm_cell.
void check_norms(std::span<const Tensor> cell, RecurrentKind kind, uint64_t rows, uint64_t hidden) {
  const Tensor &bias_hn = cell[3], &norm_hh = cell[6], &bias_hh = cell[7], &norm_cell = cell[8];
  if (norm_hh && kind == RecurrentKind::gru_reset_before)
    fail("a GRU that resets before has no norm_hh");
  if (norm_hh && bias_hn) fail("a cell with norm_hh has no bias_hn");
  if (bias_hh && !norm_hh) fail("a cell with bias_hh needs norm_hh");
  if (norm_cell && kind != RecurrentKind::lstm) fail("only an LSTM has norm_cell");
  expect_length("norm_hh", norm_hh, rows);
  expect_length("bias_hh", bias_hh, rows);
  expect_length("norm_cell", norm_cell, 2 * hidden);
}

// The size of the hidden state of the cell whose tensors begin at `slot`; 0 if there is no cell.
uint64_t check_cell(const Node& node, size_t slot, uint64_t size) {
  constexpr uint64_t gates[] = {4, 3, 1, 1, 3, 2};  // by RecurrentKind
  const Tensor &weight_ih = node.tensors[slot], &weight_hh = node.tensors[slot + 1];
  const Tensor &bias = node.tensors[slot + 2], &bias_hn = node.tensors[slot + 3];
  const Tensor &weight_hr = node.tensors[slot + 4], &peepholes = node.tensors[slot + 5];
  const auto tensors = std::span(node.tensors).subspan(slot, cell_tensors);
  if (std::none_of(tensors.begin(), tensors.end(), [](const Tensor& t) { return bool{t}; }))
    return 0;
  if (!weight_hh) fail("a cell needs weight_hh");
  const auto kind = static_cast<RecurrentKind>(node.ints[0]);
  const uint64_t hidden = (weight_hr ? weight_hr : weight_hh).columns;
  const uint64_t rows = gates[node.ints[0]] * hidden;
  if (weight_ih)
    expect_shape("weight_ih", weight_ih, rows, size);
  else
    expect("input size of a cell without weight_ih", size, rows);
  expect_shape("weight_hh", weight_hh, rows, weight_hh.columns);
  expect_length("bias", bias, rows);
  expect_length("bias_hn", bias_hn, hidden);
  if (bias_hn && kind != RecurrentKind::gru) fail("only a GRU has bias_hn");
  if (weight_hr && kind != RecurrentKind::lstm) fail("only an LSTM has weight_hr");
  if (weight_hr) expect_shape("weight_hr", weight_hr, weight_hh.columns, hidden);
  if (peepholes && kind != RecurrentKind::lstm) fail("only an LSTM has peepholes");
  expect_length("peepholes", peepholes, 3 * hidden);
  check_norms(tensors, kind, rows, hidden);
  return weight_hh.columns;
}

// Only gates have another function than a sigmoid, and only tanh is replaced by another.
void check_functions(const Node& node) {
  const auto kind = static_cast<RecurrentKind>(node.ints[0]);
  const bool plain = kind == RecurrentKind::rnn_tanh || kind == RecurrentKind::rnn_relu;
  if (plain && node.ints[1]) fail("only an LSTM or a GRU has a function of its gates");
  if (kind == RecurrentKind::rnn_relu && node.ints[2]) fail("a ReLU cell has another activation");
}

Signal infer_recurrent(const Node& node, const Signal& input) {
  check_functions(node);
  check_eps(node);
  const uint64_t forward = check_cell(node, 0, flat(input));
  const uint64_t backward = check_cell(node, cell_tensors, flat(input));
  if (forward + backward == 0) fail("has no cell, expected one forward, one backward, or both");
  return make_signal(forward + backward, 0, input.stride);
}

Signal infer_conv1d(const Node& node, const Signal& input) {
  const Tensor& weight = node.tensors[0];
  const uint32_t kernel = node.ints[0], groups = node.ints[5];
  expect("weight columns modulo kernel", weight.columns % kernel, 0);
  expect("input channels", flat(input), static_cast<uint64_t>(weight.columns / kernel) * groups);
  expect("output channels modulo groups", weight.rows % groups, 0);
  expect_length("bias", node.tensors[1], weight.rows);
  return make_signal(weight.rows, 0, stride_of(input, node.ints[1]));
}

Signal infer_conv2d(const Node& node, const Signal& input) {
  const Tensor& weight = node.tensors[0];
  if (!input.bands)
    fail("takes frames of channels x bands, found " + std::to_string(input.channels) + " values");
  const uint64_t kernel_area = static_cast<uint64_t>(node.ints[0]) * node.ints[1];
  const uint64_t groups = node.ints[10], reach = reach_of(node.ints[1], node.ints[9]);
  expect("weight columns", weight.columns * groups, input.channels * kernel_area);
  expect("output channels modulo groups", weight.rows % groups, 0);
  expect_length("bias", node.tensors[1], weight.rows);
  const uint64_t bands = static_cast<uint64_t>(input.bands) + node.ints[6] + node.ints[7];
  return make_signal(weight.rows, bands_after(bands, reach, node.ints[3]),
                     stride_of(input, node.ints[2]));
}

Signal infer_batch_norm(const Node& node, const Signal& input) {
  constexpr const char* names[] = {"mean", "variance", "weight", "bias"};
  check_eps(node);
  for (size_t i = 0; i < 4; ++i) expect_length(names[i], node.tensors[i], input.channels);
  for (float variance : node.tensors[1].values)
    if (!(variance >= 0 && variance + node.floats[0] > 0)) fail("variance plus eps is not above 0");
  return input;
}

Signal infer_layer_norm(const Node& node, const Signal& input) {
  check_eps(node);
  expect("input size modulo groups", flat(input) % node.ints[1], 0);
  expect_length("weight", node.tensors[0], flat(input));
  expect_length("bias", node.tensors[1], input.channels);
  return input;
}

Signal infer_activation(const Node& node, const Signal& input) {
  const float limit = node.floats[0];
  const Tensor &limits = node.tensors[0], &slopes = node.tensors[1];
  const auto kind = static_cast<ActivationKind>(node.ints[0]);
  const bool clipped = kind == ActivationKind::clipped_relu;
  if (clipped && !limits ? !(limit > 0) : limit != 0)
    fail("limit is " + std::to_string(limit) + "; clipped_relu alone needs one, above 0");
  if (limits && !clipped) fail("only a clipped_relu has limits");
  expect_length("limits", limits, input.channels);
  for (float each : limits.values)
    if (!(each > 0)) fail("a limit is " + std::to_string(each) + ", expected above 0");
  if (static_cast<bool>(slopes) != (kind == ActivationKind::leaky_relu))
    fail("a leaky_relu alone has slopes, and needs them");
  if (slopes.rows != 1) expect_length("slopes", slopes, input.channels);
  return input;
}

void check_rates(std::span<const Signal> inputs) {
  for (const Signal& input : inputs)
    expect("input frames to a frame", input.stride, inputs[0].stride);
}

// The sum or the product of signals.
Signal infer_combined(std::span<const Signal> inputs) {
  check_rates(inputs);
  for (const Signal& input : inputs) {
    expect("channels of an input", input.channels, inputs[0].channels);
    expect("bands of an input", input.bands, inputs[0].bands);
  }
  return inputs[0];
}

Signal infer_concat(std::span<const Signal> inputs) {
  check_rates(inputs);
  uint64_t size = 0;
  for (const Signal& input : inputs) size += flat(input);
  return make_signal(size, 0, inputs[0].stride);
}

Signal infer_slice(const Node& node, const Signal& input) {
  const uint32_t start = node.ints[0], stop = node.ints[1];
  if (start >= stop || stop > flat(input))
    fail("takes values " + std::to_string(start) + " to " + std::to_string(stop) + " of " +
         std::to_string(input.channels));
  return make_signal(stop - start, 0, input.stride);
}

Signal infer_pool(const Node& node, const Signal& input) {
  const auto& ints = node.ints;
  for (size_t i = 0; i < 4; ++i)
    if (ints[5 + i] >= ints[1 + i / 2])
      fail("pads " + std::to_string(ints[5 + i]) + " around a kernel of " +
           std::to_string(ints[1 + i / 2]) + ", expected less");
  const uint64_t stride = stride_of(input, ints[3]);
  if (!input.bands) {
    expect("kernel in bands", ints[2], 1);
    return make_signal(input.channels, 0, stride);
  }
  const uint64_t bands = uint64_t{input.bands} + ints[7] + ints[8];
  return make_signal(input.channels, bands_after(bands, ints[2], ints[4]), stride);
}

Signal infer_take(const Node& node, const Signal& input) {
  const uint32_t axis = node.ints[0], size = axis ? input.bands : input.channels;
  if (axis && !input.bands) fail("takes bands of flat frames; add an Unflatten");
  for (size_t i = 1; i < node.ints.size(); ++i)
    if (node.ints[i] > size)
      fail("takes value " + std::to_string(node.ints[i] - 1) + " of " + std::to_string(size));
  const uint64_t count = node.ints.size() - 1;
  return axis ? make_signal(input.channels, count, input.stride)
              : make_signal(count, input.bands, input.stride);
}

Signal infer_unstacking(const Node& node, const Signal& input) {
  const uint32_t count = node.ints[0];
  expect("input size modulo count", flat(input) % count, 0);
  if (!input.stride || input.stride % count)
    fail("makes " + std::to_string(count) + " frames of one that stands for " +
         std::to_string(input.stride) + " of the input's");
  return make_signal(flat(input) / count, 0, input.stride / count);
}

Signal infer_spread(std::span<const Signal> inputs) {
  if (inputs[0].stride || !inputs[1].stride)
    fail("takes one frame an utterance, then a signal of many");
  return make_signal(inputs[0].channels, inputs[0].bands, inputs[1].stride);
}

Signal infer_softmax(const Node& node, const Signal& input) {
  if (node.ints[0] && !input.stride) fail("runs over time, found one frame an utterance");
  return make_signal(flat(input), 0, input.stride);
}

Signal infer_embedding(const Node& node, const Signal& input) {
  expect("values in a frame of token ids", flat(input), 1);
  return make_signal(node.tensors[0].columns, 0, input.stride);
}

Signal infer_elementwise(const Node& node, std::span<const Signal> inputs) {
  expect("number of inputs", inputs.size(), 2);
  check_rates(inputs);
  expect("size of the second input", flat(inputs[1]), flat(inputs[0]));
  expect_length("weight", node.tensors[0], inputs[0].channels);
  return inputs[0];
}

Signal infer_unflatten(const Node& node, const Signal& input) {
  const uint64_t channels = node.ints[0];
  expect("input size modulo channels", flat(input) % channels, 0);
  return make_signal(channels, flat(input) / channels, input.stride);
}

}  // namespace

Signal infer(const Node& node, std::span<const Signal> inputs) {
  const Signal& input = inputs[0];
  switch (node.kind) {
    case LayerKind::linear:
      return infer_linear(node, input);
    case LayerKind::recurrent:
      return infer_recurrent(node, input);
    case LayerKind::conv1d:
      return infer_conv1d(node, input);
    case LayerKind::conv2d:
      return infer_conv2d(node, input);
    case LayerKind::batch_norm:
      return infer_batch_norm(node, input);
    case LayerKind::layer_norm:
      return infer_layer_norm(node, input);
    case LayerKind::activation:
      return infer_activation(node, input);
    case LayerKind::context_window:
      return make_signal(flat(input) * (uint64_t{1} + node.ints[0] + node.ints[1]), 0,
                         input.stride);
    case LayerKind::frame_stacking:
      return make_signal(flat(input) * node.ints[0], 0, stride_of(input, node.ints[1]));
    case LayerKind::subsample:
      return make_signal(input.channels, input.bands, stride_of(input, node.ints[0]));
    case LayerKind::unflatten:
      return infer_unflatten(node, input);
    case LayerKind::slice:
      return infer_slice(node, input);
    case LayerKind::embedding:
      return infer_embedding(node, input);
    case LayerKind::elementwise_recurrence:
      return infer_elementwise(node, inputs);
    case LayerKind::flatten:
      return make_signal(input.size(), 0, input.stride);
    case LayerKind::add:
    case LayerKind::multiply:
      return infer_combined(inputs);
    case LayerKind::concat:
      return infer_concat(inputs);
    case LayerKind::log_softmax:
      return make_signal(flat(input), 0, input.stride);
    case LayerKind::softmax:
      return infer_softmax(node, input);
    case LayerKind::reduce:
      return make_signal(input.channels, input.bands, 0);
    case LayerKind::pool:
      return infer_pool(node, input);
    case LayerKind::take:
      return infer_take(node, input);
    case LayerKind::frame_unstacking:
      return infer_unstacking(node, input);
    case LayerKind::spread:
      return infer_spread(inputs);
  }
  fail("kind of layer is unknown");
}

uint64_t memory(const Node& node, const Signal& input) {
  uint64_t frames = 0;
  if (node.kind == LayerKind::conv1d) {
    frames = reach_of(node.ints[0], node.ints[2]) + node.ints[3] + node.ints[4];
  } else if (node.kind == LayerKind::conv2d) {
    frames = reach_of(node.ints[0], node.ints[8]) + node.ints[4] + node.ints[5];
  } else if (node.kind == LayerKind::pool) {
    frames = uint64_t{node.ints[1]} + node.ints[5] + node.ints[6];
  } else if (node.kind == LayerKind::frame_stacking) {
    frames = std::max(node.ints[0], node.ints[1]);
  }
  return frames * input.size() + node.signal.size();
}

}  // namespace tinyvox
