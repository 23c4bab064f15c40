#include "records.h"

#include <algorithm>
#include <array>

#include "coded.h"
#include "shapes.h"

namespace tinyvox {
namespace {

struct Setting {
  const char* name;
  uint32_t least, most;
  // The most before gating_version, before varying_version and before signals_version; 0: as after.
  uint32_t most_before_gating = 0, most_before_varying = 0;
  uint32_t since = 0;                // version; before it, the least value
  uint32_t most_before_signals = 0;  // as the two above, before signals_version

  uint32_t most_in(uint32_t version) const {
    if (version < gating_version && most_before_gating) return most_before_gating;
    if (version < varying_version && most_before_varying) return most_before_varying;
    return version < signals_version && most_before_signals ? most_before_signals : most;
  }
};

struct Slot {
  const char* name;
  bool is_vector, optional;
  uint32_t since = 0;  // version
};

// The fields of a layer's record.
struct Form {
  std::span<const Setting> ints;
  std::span<const Slot> tensors;
  size_t floats = 0;
  uint32_t most_inputs = 1;   // if above one, at least two
  uint32_t inputs = 1;        // if the record does not say how many
  bool places = false;        // whether a list of places follows the settings
  uint32_t floats_since = 0;  // version; before it, the usual eps
};

constexpr Slot weight_and_bias[] = {{"weight", false, false}, {"bias", true, true}};
constexpr Slot cells[] = {{"forward.weight_ih", false, true},
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
static_assert(std::size(cells) == 2 * cell_tensors);
constexpr Slot normalization[] = {{"mean", true, false},
                                  {"variance", true, false},
                                  {"weight", true, false},
                                  {"bias", true, false}};
constexpr Setting cell[] = {{"kind", 0, 5, 3, 3, 0, 4},
                            {"gates", 0, 2, 0, 0, varying_version},
                            {"activation", 0, 3, 0, 0, varying_version},
                            {"whether the norm is not carried", 0, 1, 0, 0, signals_version}};
constexpr Setting conv1d[] = {{"kernel", 1, max_span},        {"stride", 1, max_span},
                              {"dilation", 1, max_span},      {"padding before", 0, max_span},
                              {"padding after", 0, max_span}, {"groups", 1, max_dimension}};
constexpr Setting conv2d[] = {{"kernel in time", 1, max_span},
                              {"kernel in bands", 1, max_span},
                              {"stride in time", 1, max_span},
                              {"stride in bands", 1, max_span},
                              {"padding before", 0, max_span},
                              {"padding after", 0, max_span},
                              {"padding below", 0, max_span},
                              {"padding above", 0, max_span},
                              {"dilation in time", 1, max_span, 0, 0, varying_version},
                              {"dilation in bands", 1, max_span, 0, 0, varying_version},
                              {"groups", 1, max_dimension, 0, 0, varying_version}};
constexpr Setting norm[] = {{"kind", 0, 1, 0, 0, signals_version},
                            {"groups", 1, max_dimension, 0, 0, signals_version}};
constexpr Setting activation[] = {{"kind", 0, 18, 3, 10, 0, 17}};
constexpr Slot limits[] = {{"limits", true, true}, {"slopes", true, true, gating_version}};
constexpr Setting reduction[] = {{"kind", 0, 7, 0, 0, 0, 3}};
constexpr Setting context[] = {{"left", 0, max_span}, {"right", 0, max_span}};
constexpr Setting stacking[] = {{"count", 1, max_span}, {"stride", 1, max_span}};
constexpr Setting subsample[] = {{"factor", 1, max_span}};
constexpr Setting unflatten[] = {{"channels", 1, max_dimension}};
constexpr Setting softmax[] = {{"over", 0, 1, 0, 0, signals_version}};
constexpr Setting pool[] = {{"kind", 0, 2},
                            {"kernel in time", 1, max_span},
                            {"kernel in bands", 1, max_span},
                            {"stride in time", 1, max_span},
                            {"stride in bands", 1, max_span},
                            {"padding before", 0, max_span},
                            {"padding after", 0, max_span},
                            {"padding below", 0, max_span},
                            {"padding above", 0, max_span}};
constexpr Setting take[] = {{"axis", 0, 1}};
constexpr Setting unstacking[] = {{"count", 1, max_span}};
constexpr Setting direction[] = {{"whether it runs backwards", 0, 1}};
constexpr Slot table[] = {{"weight", false, false}};
constexpr Slot self_weight[] = {{"weight", true, true}};
constexpr Setting slice[] = {{"start", 0, max_dimension}, {"stop", 1, max_dimension}};

// In the order of LayerKind.
const std::array<Form, layer_kinds> forms{{
    {{}, weight_and_bias},                           // linear
    {cell, cells, 1, 1, 1, false, signals_version},  // recurrent
    {conv1d, weight_and_bias},                       // conv1d
    {conv2d, weight_and_bias},                       // conv2d
    {{}, normalization, 1},                          // batch_norm
    {norm, std::span(normalization).last(2), 1},     // layer_norm
    {activation, limits, 1},                         // activation
    {context, {}},                                   // context_window
    {stacking, {}},                                  // frame_stacking
    {subsample, {}},                                 // subsample
    {unflatten, {}},                                 // unflatten
    {{}, {}},                                        // flatten
    {{}, {}, 0, max_inputs},                         // add
    {{}, {}, 0, max_inputs},                         // concat
    {{}, {}},                                        // log_softmax
    {{}, {}, 0, max_inputs},                         // multiply
    {reduction, {}},                                 // reduce
    {softmax, {}},                                   // softmax
    {slice, {}},                                     // slice
    {pool, {}},                                      // pool
    {take, {}, 0, 1, 1, true},                       // take
    {unstacking, {}},                                // frame_unstacking
    {{}, {}, 0, 1, 2},                               // spread
    {{}, table},                                     // embedding
    {direction, self_weight, 0, 2},                  // elementwise_recurrence
}};

// How many kinds of layers a version knows.
uint32_t kinds_in(uint32_t version) {
  return version < gating_version    ? oldest_kinds
         : version < varying_version ? gating_kinds
         : version < signals_version ? varying_kinds
                                     : layer_kinds;
}

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
  if (node.kind == LayerKind::embedding && node.inputs[0] != 0)
    fail("reads another layer, expected the input: token ids");
  if (node.kind != LayerKind::recurrent || version >= signals_version) return;
  if (node.tensors.empty() || node.repeats) return;
  for (size_t slot : {size_t{0}, cell_tensors}) {
    const auto cell = std::span(node.tensors).subspan(slot, cell_tensors);
    const bool any = std::any_of(cell.begin(), cell.end(), [](const Tensor& t) { return bool{t}; });
    if (any && !(cell[0] && cell[1])) fail("a cell needs both weight_ih and weight_hh");
  }
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
  const uint32_t most = version_ < gating_version ? oldest_kinds - 1 : repeat_kind;
  const uint32_t kind = reader_.varint("kind of layer", 0, most);
  if (kind == repeat_kind) return read_repeat(node, signals);
  if (kind == tied_kind && version_ >= signals_version) return read_tied(node, signals);
  if (kind >= kinds_in(version_))
    fail("kind of layer is " + std::to_string(kind) + ", which is unknown");
  node.kind = static_cast<LayerKind>(kind);
  const Form& form = forms[kind];
  const uint32_t inputs =
      form.most_inputs == 1 ? form.inputs : reader_.varint("number of inputs", 2, form.most_inputs);
  std::vector<Signal> found;
  for (uint32_t i = 0; i < inputs; ++i) {
    node.inputs.push_back(read_input(signals));
    found.push_back(signals[node.inputs.back()]);
  }
  for (const Setting& setting : form.ints) {
    const uint32_t most = setting.most_in(version_);
    const bool there = setting.since <= version_;
    node.ints.push_back(there ? reader_.varint(setting.name, setting.least, most) : setting.least);
  }
  if (form.places) read_places(node);
  node.floats = form.floats_since <= version_ ? reader_.floats(form.floats, false)
                                              : std::vector<float>(form.floats, usual_eps);
  for (const Slot& slot : form.tensors) {
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
  check_fields(node, version_);
  node.signal = infer(node, found);
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

namespace {

constexpr uint8_t log_probabilities = 1, normalized = 2, floored = 4;

FeatureConfig read_features(Reader& reader, uint8_t flags) {
  FeatureConfig config;
  config.kind = static_cast<FeatureKind>(reader.varint("kind of features", 0, 2));
  config.sample_rate = reader.varint("sample rate", 1000, 192000);
  config.bands = reader.varint("bands", 1, 256);
  config.coefficients = reader.varint("coefficients", 1, 256);
  config.window_ms = reader.f32();
  config.hop_ms = reader.f32();
  config.low_hz = reader.f32();
  config.high_hz = reader.f32();
  if (flags & floored) config.noise_floor_db = reader.f32();
  if (flags & normalized) {
    config.mean = reader.floats(config.size(), false);
    config.deviation = reader.floats(config.size(), false);
  }
  if (const std::string fault = config.fault(); !fault.empty()) fail(fault);
  return config;
}

}  // namespace

Speech read_speech(Reader& reader, uint32_t version) {
  Speech speech;
  const uint8_t flags = reader.u8();
  const uint8_t known = log_probabilities | normalized | (version >= gating_version ? floored : 0);
  if (flags & ~known) fail("unknown flags");
  speech.log_probabilities = flags & log_probabilities;
  speech.features = read_features(reader, flags);
  const uint32_t tokens = reader.varint("number of tokens", 1, max_tokens);
  speech.blank = reader.varint("blank", 0, tokens - 1);
  for (uint32_t i = 0; i < tokens; ++i) speech.tokens.push_back(reader.text("a token", max_name));
  return speech;
}

}  // namespace tinyvox
