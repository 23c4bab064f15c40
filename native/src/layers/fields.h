// What a node holds, by name: for each kind of layer its settings and numbers, in the order of
// `ints` and then of `floats`, and its tensors. src/tinyvox/model/layers and
// src/tinyvox/executor/modules.py define what a layer computes from them.
#pragma once

#include <array>
#include <span>
#include <utility>

#include "file.h"

namespace tinyvox {

// The numbers of all kinds are in files: never reorder them.
enum class RecurrentKind : uint32_t {
  lstm = 0,
  gru = 1,
  rnn_tanh = 2,
  rnn_relu = 3,
  gru_reset_before = 4,  // since version 6
  li_gru = 5,            // since version 7
};
// Of the gates of an LSTM or a GRU.
enum class GateFunction : uint32_t { sigmoid = 0, hardsigmoid = 1, hard_sigmoid_keras = 2 };
// In place of a cell's tanh.
enum class CellActivation : uint32_t { of_kind = 0, relu = 1, sigmoid = 2, identity = 3 };
enum class ActivationKind : uint32_t {
  relu = 0,
  clipped_relu = 1,
  tanh = 2,
  sigmoid = 3,
  leaky_relu = 4,  // from here on since version 5
  elu = 5,
  silu = 6,
  gelu = 7,
  gelu_tanh = 8,
  hardsigmoid = 9,
  hardswish = 10,
  softplus = 11,  // from here on since version 6
  softsign = 12,
  mish = 13,
  exp = 14,
  sqrt = 15,
  log = 16,
  abs = 17,
  reciprocal = 18,  // since version 7
};
enum class NormKind : uint32_t { layer = 0, rms = 1 };
enum class ReductionKind : uint32_t {
  last = 0,
  first = 1,
  mean = 2,
  max = 3,
  sum = 4,  // from here on since version 7
  variance = 5,
  variance_unbiased = 6,
  middle = 7,
};
enum class PoolKind : uint32_t { max = 0, mean = 1, mean_inside = 2 };
// What a softmax runs over.
enum class SoftmaxAxis : uint32_t { features = 0, time = 1 };
// What values are taken of.
enum class TakeAxis : uint32_t { channels = 0, bands = 1 };

struct RecurrentFields {
  RecurrentKind kind;
  GateFunction gates;
  CellActivation activation;
  uint32_t norm_not_carried;  // 1: an LSTM carries the state of its cell as it is before its norm
  float eps;
};
// All may be absent. They are those of the forward cell, then those of the backward one.
struct CellTensors {
  const Tensor &weight_ih, &weight_hh, &bias, &bias_hn, &weight_hr, &peepholes;
  const Tensor &norm_hh, &bias_hh, &norm_cell;
};

struct Conv1dFields {
  uint32_t kernel, stride, dilation, before, after, groups;
};
struct Conv2dFields {
  uint32_t kernel_time, kernel_band, stride_time, stride_band, before, after, below, above;
  uint32_t dilation_time, dilation_band, groups;
};
// Of linear layers and convolutions; the bias may be absent.
struct WeightAndBias {
  const Tensor &weight, &bias;
};

struct BatchNormFields {
  float eps;
};
struct BatchNormTensors {
  const Tensor &mean, &variance, &weight, &bias;
};
struct LayerNormFields {
  NormKind kind;
  uint32_t groups;
  float eps;
};

struct ActivationFields {
  ActivationKind kind;
  float limit;  // 0 where there is none, or one a channel
};
// Both may be absent; slopes are [1] or one a channel.
struct ActivationTensors {
  const Tensor &limits, &slopes;
};

struct ContextWindowFields {
  uint32_t left, right;
};
struct FrameStackingFields {
  uint32_t count, stride;
};
struct SubsampleFields {
  uint32_t factor;
};
struct UnflattenFields {
  uint32_t channels;
};
struct FrameUnstackingFields {
  uint32_t count;
};
struct SliceFields {
  uint32_t start, stop;
};
// With places, which follow it.
struct TakeFields {
  TakeAxis axis;
};
struct PoolFields {
  PoolKind kind;
  uint32_t kernel_time, kernel_band, stride_time, stride_band, before, after, below, above;
};
struct ReduceFields {
  ReductionKind kind;
};
struct SoftmaxFields {
  SoftmaxAxis over;
};
struct ElementwiseFields {
  uint32_t reverse;  // 1: it runs backwards
};
// Of an embedding, a table; of an elementwise recurrence a vector, which may be absent.
struct OneWeight {
  const Tensor& weight;
};

// How many settings and numbers a struct of them names, and how many tensors one of those.
template <typename Fields>
inline constexpr size_t field_count = sizeof(Fields) / sizeof(uint32_t);
template <typename Tensors>
inline constexpr size_t tensor_count = sizeof(Tensors) / sizeof(const Tensor*);
inline constexpr size_t cell_tensors = tensor_count<CellTensors>;

template <typename Fields>
Fields fields_of(const Node& node) {
  std::array<uint32_t, field_count<Fields>> words;
  const size_t ints = words.size() - node.floats.size();
  for (size_t i = 0; i < words.size(); ++i)
    words[i] = i < ints ? node.ints[i] : __builtin_bit_cast(uint32_t, node.floats[i - ints]);
  return __builtin_bit_cast(Fields, words);
}

// The tensors from the given one on. They are the node's: valid as long as it has them.
template <typename Tensors>
Tensors tensors_of(const Node& node, size_t first = 0) {
  return [&]<size_t... i>(std::index_sequence<i...>) {
    return Tensors{node.tensors[first + i]...};
  }(std::make_index_sequence<tensor_count<Tensors>>());
}

// Of a layer that takes values by their places: for each value of the output 0 (a zero) or 1 + its
// place.
inline std::span<const uint32_t> places_of(const Node& node) {
  return std::span(node.ints).subspan(field_count<TakeFields>);
}

}  // namespace tinyvox
