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

struct Signal {
  uint32_t channels = 0;  // the size of a flat frame
  uint32_t bands = 0;     // 0: a flat frame
  uint32_t stride = 1;    // input frames for one frame; 0: the whole utterance

  uint32_t size() const { return bands ? channels * bands : channels; }
};

// A layer as it is in the file. layers/fields.h names what `ints`, `floats` and `tensors` hold.
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
