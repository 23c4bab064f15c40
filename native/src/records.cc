#include "records.h"

#include <algorithm>

#include "coded.h"

namespace tinyvox {
namespace {

constexpr float usual_eps = 1e-5f;  // of cells that cannot normalize

// The first byte of a tensor's record. A flag that the kind does not use is 0:
//
//   7           6                5                4              3             2 1 0
//   fine input  an entropy model one scale        half levels    half values   TensorKind
//               a group of rows  a group of rows                 or scales
constexpr uint8_t half_values = 8, half_levels = 16, scale_a_group = 32, model_a_group = 64,
                  fine_input = 128;

uint8_t allowed_flags(TensorKind kind, uint32_t version) {
  if (kind == TensorKind::vector || kind == TensorKind::dense) return half_values;
  if (kind != TensorKind::coded) return 0;
  const uint8_t fine = version >= signals_version ? fine_input : 0;
  return half_values | half_levels | scale_a_group | model_a_group | fine;
}

std::string read_name(Reader& reader) {
  std::string name = reader.text("a layer name", max_name);
  const auto control = [](char c) { return static_cast<uint8_t>(c) < 32 || c == 127; };
  if (std::any_of(name.begin(), name.end(), control)) fail("a layer name holds control characters");
  return name;
}

void check_slot(const Slot& slot, const Tensor& tensor) {
  if (!tensor && !slot.optional) fail("is absent");
  if (tensor && slot.is_vector != (tensor.kind == TensorKind::vector))
    fail(slot.is_vector ? "is a matrix, expected a vector" : "is a vector, expected a matrix");
}

// What only some versions allow.
void check_fields(const Node& node, uint32_t version) {
  if (const auto check = type_of(node.kind).check) check(node, version);
}

// The shape of a product from the shapes of its factors.
void set_shape(Tensor& product) {
  const Tensor &left = *product.left, &right = *product.right;
  if (left.columns != right.rows)
    fail("factors do not fit: " + std::to_string(left.columns) + " columns times " +
         std::to_string(right.rows) + " rows");
  product.rows = left.rows;
  product.columns = right.columns;
}

// The weights in the leaves of an expression.
uint64_t weights_of(const Tensor& matrix) {
  if (matrix.left) return weights_of(*matrix.left) + weights_of(*matrix.right);
  return static_cast<uint64_t>(matrix.rows) * matrix.columns;
}

}  // namespace

Node NodeReader::read(std::span<const Signal> signals) {
  const size_t start = reader_.position();
  Node node;
  node.name = read_name(reader_);
  try {
    read_body(node, signals);
  } catch (const FormatError&) {
    fail_within("layer '" + node.name + "'");
  }
  node.file_bytes = reader_.position() - start;
  for (const Tensor& tensor : node.tensors) node.file_bytes -= tensor.file_bytes;
  return node;
}

void NodeReader::read_body(Node& node, std::span<const Signal> signals) {
  const uint32_t known = kinds_in(version_);
  const uint32_t most = version_ < gating_version ? known - 1 : repeat_kind;
  const uint32_t kind = reader_.varint("kind of layer", 0, most);
  if (kind == repeat_kind) return read_repeat(node, signals);
  if (kind == tied_kind && version_ >= signals_version) return read_tied(node, signals);
  if (kind >= known) fail("kind of layer is " + std::to_string(kind) + ", which is unknown");
  node.kind = static_cast<LayerKind>(kind);
  const Record& record = type_of(node.kind).record;
  const std::vector<Signal> inputs = read_inputs(node, record, signals);
  read_fields(node, record);
  read_tensors(node, record);
  check_fields(node, version_);
  node.signal = infer(node, inputs);
}

std::vector<Signal> NodeReader::read_inputs(Node& node, const Record& record,
                                            std::span<const Signal> signals) {
  const uint32_t inputs = record.most_inputs == 1
                              ? record.inputs
                              : reader_.varint("number of inputs", 2, record.most_inputs);
  std::vector<Signal> found;
  for (uint32_t i = 0; i < inputs; ++i) {
    node.inputs.push_back(read_input(signals));
    found.push_back(signals[node.inputs.back()]);
  }
  return found;
}

void NodeReader::read_fields(Node& node, const Record& record) {
  for (const Setting& setting : record.settings) {
    const uint32_t most = setting.most_in(version_);
    const bool there = setting.since <= version_;
    node.ints.push_back(there ? reader_.varint(setting.name, setting.least, most) : setting.least);
  }
  if (record.places) read_places(node);
  node.floats = record.floats_since <= version_ ? reader_.floats(record.floats, false)
                                                : std::vector<float>(record.floats, usual_eps);
}

void NodeReader::read_tensors(Node& node, const Record& record) {
  for (const Slot& slot : record.tensors) {
    if (slot.since > version_) {
      node.tensors.emplace_back();
      continue;
    }
    try {
      node.tensors.push_back(read_tensor(0));
      check_slot(slot, node.tensors.back());
    } catch (const FormatError&) {
      fail_within(slot.name);
    }
  }
}

// A linear layer whose weight is the table of an earlier embedding.
void NodeReader::read_tied(Node& node, std::span<const Signal> signals) {
  if (earlier_.empty()) fail("is tied to a layer, but no layer comes before it");
  const uint32_t which =
      reader_.varint("layer that it is tied to", 0, static_cast<uint32_t>(earlier_.size() - 1));
  const Node& first = earlier_[which];
  if (first.kind != LayerKind::embedding || first.repeats)
    fail("is tied to layer '" + first.name + "', which is no embedding");
  node.inputs.push_back(read_input(signals));
  node.kind = LayerKind::linear;
  node.tied = which;
  const Tensor& weight = first.tensors[0];
  spend(weights_of(weight));
  budget_.spend(weight.copy_bytes());
  node.tensors.push_back(weight.copy());
  node.tensors.push_back(read_tensor(0));
  check_slot(weight_and_bias[1], node.tensors[1]);
  node.signal = infer(node, {&signals[node.inputs[0]], 1});
}

uint32_t NodeReader::read_input(std::span<const Signal> signals) {
  return reader_.varint("input", 0, static_cast<uint32_t>(signals.size() - 1));
}

void NodeReader::read_places(Node& node) {
  const uint32_t count = reader_.varint("number of places", 1, max_dimension);
  budget_.spend(count * sizeof(uint32_t));
  node.ints.reserve(node.ints.size() + count);
  for (uint32_t i = 0; i < count; ++i)
    node.ints.push_back(reader_.varint("place", 0, max_dimension));
}

// The layer of an earlier node once more. Its tensors count again: they take no additional memory,
// but additional time.
void NodeReader::read_repeat(Node& node, std::span<const Signal> signals) {
  if (earlier_.empty()) fail("repeats a layer, but no layer comes before it");
  const uint32_t which =
      reader_.varint("layer that is repeated", 0, static_cast<uint32_t>(earlier_.size() - 1));
  const Node& first = earlier_[which];
  if (first.repeats || first.inputs.size() != 1 || first.tensors.empty())
    fail("repeats layer '" + first.name + "', which has no tensors or is a repetition itself");
  node.inputs.push_back(read_input(signals));
  const Signal &input = signals[node.inputs[0]], &expected = signals[first.inputs[0]];
  if (input.channels != expected.channels || input.bands != expected.bands)
    fail("repeats layer '" + first.name + "' for frames of another shape");
  for (const Tensor& tensor : first.tensors) spend(weights_of(tensor));
  node.kind = first.kind;
  node.ints = first.ints;
  node.floats = first.floats;
  node.tensors.resize(first.tensors.size());
  node.repeats = which;
  check_fields(node, version_);
  node.signal = infer(first, {&input, 1});
}

Tensor NodeReader::read_tensor(uint32_t depth) {
  const size_t start = reader_.position();
  Tensor tensor;
  const uint8_t head = reader_.u8(), flags = head & ~7;
  if (const int most = version_ >= sharing_version ? 5 : 4; (head & 7) > most)
    fail("kind of tensor is " + std::to_string(head & 7) + ", expected 0 to " +
         std::to_string(most));
  tensor.kind = static_cast<TensorKind>(head & 7);
  if (flags & ~allowed_flags(tensor.kind, version_))
    fail("a tensor has flags that its kind does not know");
  if (tensor.kind == TensorKind::vector) read_vector(tensor, flags);
  if (tensor.kind == TensorKind::dense || tensor.kind == TensorKind::coded)
    read_leaf(tensor, flags);
  if (tensor.kind == TensorKind::product) read_product(tensor, depth);
  if (tensor.kind == TensorKind::shared) read_shared(tensor, depth);
  tensor.file_bytes = reader_.position() - start;
  return tensor;
}

std::unique_ptr<Tensor> NodeReader::read_factor(uint32_t depth) {
  auto factor = std::make_unique<Tensor>(read_tensor(depth));
  if (!*factor || factor->kind == TensorKind::vector) fail("a factor is not a matrix");
  return factor;
}

void NodeReader::read_product(Tensor& tensor, uint32_t depth) {
  if (depth == max_depth) fail("products lie more than 4 deep");
  tensor.left = read_factor(depth + 1);
  tensor.right = read_factor(depth + 1);
  set_shape(tensor);
  if (depth == 0) factors_.push_back(tensor.right);
}

void NodeReader::read_shared(Tensor& tensor, uint32_t depth) {
  if (depth > 0) fail("a product with a shared factor is itself a factor");
  tensor.left = read_factor(depth + 1);
  if (factors_.empty()) fail("shares a factor, but no product comes before it");
  tensor.shares_with = reader_.varint("product whose factor is shared", 0,
                                      static_cast<uint32_t>(factors_.size() - 1));
  tensor.right = factors_[tensor.shares_with];
  set_shape(tensor);
  spend(weights_of(*tensor.right));
}

void NodeReader::read_vector(Tensor& tensor, uint8_t flags) {
  tensor.rows = reader_.varint("length", 1, max_dimension);
  tensor.columns = 1;
  tensor.values = read_floats(spend(tensor), flags);
  tensor.columns = 0;
}

void NodeReader::read_leaf(Tensor& tensor, uint8_t flags) {
  tensor.rows = reader_.varint("rows", 1, max_dimension);
  tensor.columns = reader_.varint("columns", 1, max_dimension);
  const uint64_t size = spend(tensor);
  if (tensor.kind == TensorKind::dense)
    tensor.values = read_floats(size, flags);
  else
    read_coded(reader_, budget_, tensor,
               {(flags & half_values) != 0, (flags & half_levels) != 0,
                (flags & scale_a_group) != 0, (flags & model_a_group) != 0});
  tensor.fine_input = flags & fine_input;
}

std::vector<float> NodeReader::read_floats(uint64_t count, uint8_t flags) {
  std::vector<float> values = reader_.floats(count, flags & half_values);
  budget_.spend(count * sizeof(float));  // at most twice what the file has, so not earlier
  return values;
}

// The size of a leaf, subtracted from the weights that the file may still hold.
uint64_t NodeReader::spend(const Tensor& tensor) {
  const uint64_t size = static_cast<uint64_t>(tensor.rows) * tensor.columns;
  if (size > max_matrix)
    fail("a matrix of " + std::to_string(tensor.rows) + " x " + std::to_string(tensor.columns) +
         " weights, expected 2^28 at most");
  spend(size);
  return size;
}

// A shared factor counts each time: it takes no additional memory, but additional time.
void NodeReader::spend(uint64_t weights) {
  if (weights > weights_left_) fail("the file holds more than 2^29 weights");
  weights_left_ -= weights;
}

}  // namespace tinyvox
