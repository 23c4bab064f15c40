// Parses and validates a .tvx file. This is the only place that reads untrusted bytes. It depends
// on the entropy decoder alone. docs/format.md is the specification.
//
// Everything that `parse` returns may be used without further checks: shapes fit, every code has an
// entry in its codebook, numbers are finite, sizes are within the limits below.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "container.h"
#include "features.h"

namespace tinyvox {

// The largest magnitude of the values; 0 if there are none.
inline float magnitude(const std::vector<float>& values) {
  float most = 0;
  for (float value : values) most = std::max(most, std::abs(value));
  return most;
}

struct FormatError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// These numbers are in files: never reorder them.
enum class LayerKind : uint8_t {
  linear = 0,
  recurrent = 1,
  conv1d = 2,
  conv2d = 3,
  batch_norm = 4,
  layer_norm = 5,
  activation = 6,
  context_window = 7,
  frame_stacking = 8,
  subsample = 9,
  unflatten = 10,
  flatten = 11,
  add = 12,
  concat = 13,
  log_softmax = 14,
  multiply = 15,
  reduce = 16,
  softmax = 17,
  slice = 18,
  pool = 19,  // from here on since version 7
  take = 20,
  frame_unstacking = 21,
  spread = 22,
  embedding = 23,
  elementwise_recurrence = 24,
};
inline constexpr uint32_t layer_kinds = 25;

enum class RecurrentKind : uint8_t {
  lstm = 0,
  gru = 1,
  rnn_tanh = 2,
  rnn_relu = 3,
  gru_reset_before = 4,  // since version 6
  li_gru = 5,            // since version 7
};
// Of the gates of an LSTM or a GRU.
enum class GateFunction : uint8_t { sigmoid = 0, hardsigmoid = 1, hard_sigmoid_keras = 2 };
// In place of a cell's tanh.
enum class CellActivation : uint8_t { of_kind = 0, relu = 1, sigmoid = 2, identity = 3 };
enum class ActivationKind : uint8_t {
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
enum class NormKind : uint8_t { layer = 0, rms = 1 };
enum class ReductionKind : uint8_t {
  last = 0,
  first = 1,
  mean = 2,
  max = 3,
  sum = 4,  // from here on since version 7
  variance = 5,
  variance_unbiased = 6,
  middle = 7,
};
enum class PoolKind : uint8_t { max = 0, mean = 1, mean_inside = 2 };
// What a softmax runs over.
enum class SoftmaxAxis : uint8_t { features = 0, time = 1 };

enum class TensorKind : uint8_t {
  absent = 0,
  vector = 1,
  dense = 2,
  coded = 3,
  product = 4,
  shared = 5,  // a product with the right factor of an earlier one; since version 3
};

// The level of a code: an entry of a table; code - zero; or the sum of one number for each bit,
// whose sign is the bit. A trellis is a grid of which each code can use only a part (trellis.h).
enum class CodebookKind : uint8_t { table = 0, grid = 1, trellis = 2, binary = 3 };

// A vector, or a matrix expression.
struct Tensor {
  TensorKind kind = TensorKind::absent;
  uint32_t rows = 0;  // or the length of a vector
  uint32_t columns = 0;
  std::vector<float> values;  // vector [rows], dense [rows, columns]

  // Coded: weight = level(row, code) * scale[row].
  CodebookKind codebook = CodebookKind::table;
  uint32_t entries = 0;        // 2 to 256; every code is below it
  uint32_t groups = 1;         // of rows, 1 to 256
  std::vector<uint8_t> group;  // of each row; empty if there is one group
  std::vector<float> levels;   // table [1 or groups, entries]; binary [rows, bits]
  std::vector<uint8_t> zero;   // grid [1 or rows]: the code of level 0; trellis [1]
  std::vector<float> scale;    // [rows]
  std::vector<uint8_t> codes;  // [rows, columns]
  uint64_t code_bytes = 0;     // in the file: the codes alone
  bool fine_input = false;     // its input is rounded to 16 bits, not to 8; since version 7

  std::unique_ptr<Tensor> left;   // product, shared: [rows, rank]
  std::shared_ptr<Tensor> right;  // product, shared: [rank, columns]
  uint32_t shares_with = 0;  // shared: number of the product that has it, in the order of the file
  uint64_t file_bytes = 0;   // in the file, with the record's header

  explicit operator bool() const { return kind != TensorKind::absent; }

  // Coded: the levels of the row's codes before scaling; `entries` of them.
  void levels_of(uint32_t row, float* to) const;
  // Whether all rows have the same levels.
  bool one_codebook() const;
  // A number that rows have in common only if they have the same levels.
  uint32_t codebook_of(uint32_t row) const;

  // Dense or coded: the weights of a row; `columns` of them.
  void weights_of(uint32_t row, float* to) const;

  // The same matrix again, without its place in the file. A right factor is shared.
  Tensor copy() const;
  // The bytes that a copy takes.
  uint64_t copy_bytes() const;
};

// The tensors of a cell, by their place.
inline constexpr size_t cell_tensors = 9;

struct Signal {
  uint32_t channels = 0;  // the size of a flat frame
  uint32_t bands = 0;     // 0: a flat frame
  uint32_t stride = 1;    // input frames for one frame; 0: the whole utterance

  uint32_t size() const { return bands ? channels * bands : channels; }
};

// The fields of each kind of layer, in the order of `ints`, `floats` and `tensors`:
//   linear          tensors: weight, bias?
//   recurrent       ints: RecurrentKind, GateFunction, CellActivation, 1 if an LSTM carries the
//                   state of its cell as it is before its norm; floats: eps;
//                   tensors: forward weight_ih?, weight_hh?, bias?, bias_hn?, weight_hr?,
//                   peepholes?, norm_hh?, bias_hh?, norm_cell?, then the same nine of the
//                   backward cell
//   conv1d          ints: kernel, stride, dilation, padding before, after, groups;
//                   tensors: weight, bias?
//   conv2d          ints: kernel t, b, stride t, b, padding before, after, below, above,
//                   dilation t, b, groups;
//                   tensors: weight, bias?
//   batch_norm      floats: eps; tensors: mean, variance, weight, bias
//   layer_norm      ints: NormKind, groups; floats: eps; tensors: weight, bias
//   activation      ints: ActivationKind; floats: limit (0 where there is none or one a channel);
//                   tensors: limits?, slopes? ([1] or one a channel)
//   context_window  ints: left, right
//   frame_stacking  ints: count, stride
//   subsample       ints: factor
//   unflatten       ints: channels
//   reduce          ints: ReductionKind
//   slice           ints: start, stop
//   embedding       tensors: weight
//   elementwise_recurrence  ints: 1 if it runs backwards; tensors: weight?
//   softmax         ints: SoftmaxAxis
//   pool            ints: PoolKind, kernel t, b, stride t, b, padding before, after, below, above
//   take            ints: axis, then for each value of the output 0 (a zero) or 1 + its place
//   frame_unstacking ints: count
//   flatten, add, concat, log_softmax, multiply, spread   nothing
// src/tinyvox/model/layers.py and src/tinyvox/executor/modules.py define what a layer computes.
struct Node {
  std::string name;
  LayerKind kind;
  std::vector<uint32_t> inputs;  // 0 is the model's input, i + 1 is node i
  std::vector<uint32_t> ints;
  std::vector<float> floats;
  std::vector<Tensor> tensors;
  std::optional<uint32_t> repeats;  // the earlier node whose layer it is, which has the tensors
  Signal signal;                    // of the output
  uint64_t file_bytes = 0;          // in the file, without its tensors
  std::optional<uint32_t> tied;     // of a linear layer: the embedding that has its weight
};

// The speech card: how audio becomes features, and outputs become text.
struct Speech {
  FeatureConfig features;
  std::vector<std::string> tokens;
  uint32_t blank = 0;
  bool log_probabilities = true;  // else raw scores
};

struct File {
  uint32_t input_size = 0;
  std::vector<Node> nodes;  // topological order; the last one is the output
  std::optional<Speech> speech;
  std::string metadata;  // JSON; the runtime does not read it
  // The bytes outside nodes and tensors, by part: "header", "section table", "model", "speech",
  // "metadata".
  std::vector<std::pair<std::string, uint64_t>> overhead;
};

class Budget;

// Raises FormatError with one line that says what was found and what was expected. The memory that
// the result takes is spent from the budget, by default that of a file of this size.
File parse(std::span<const uint8_t> bytes);
File parse(std::span<const uint8_t> bytes, Budget& budget);

extern const FileKind tvx_file;

}  // namespace tinyvox
