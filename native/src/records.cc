#include "records.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "rans.h"
#include "shapes.h"

namespace tinyvox {
namespace {

struct Setting {
  const char* name;
  uint32_t least, most;
};

struct Slot {
  const char* name;
  bool is_vector, optional;
};

// What a layer's record holds.
struct Form {
  std::span<const Setting> ints;
  std::span<const Slot> tensors;
  size_t floats = 0;
  uint32_t most_inputs = 1;  // where more than one, two at least
};

constexpr Slot weight_and_bias[] = {{"weight", false, false}, {"bias", true, true}};
constexpr Slot cells[] = {{"forward.weight_ih", false, true},  {"forward.weight_hh", false, true},
                          {"forward.bias", true, true},        {"forward.bias_hn", true, true},
                          {"backward.weight_ih", false, true}, {"backward.weight_hh", false, true},
                          {"backward.bias", true, true},       {"backward.bias_hn", true, true}};
constexpr Slot normalisation[] = {{"mean", true, false},
                                  {"variance", true, false},
                                  {"weight", true, false},
                                  {"bias", true, false}};
constexpr Setting cell_kind[] = {{"kind", 0, 3}};
constexpr Setting conv1d[] = {{"kernel", 1, max_span},        {"stride", 1, max_span},
                              {"dilation", 1, max_span},      {"padding before", 0, max_span},
                              {"padding after", 0, max_span}, {"groups", 1, max_dimension}};
constexpr Setting conv2d[] = {{"kernel in time", 1, max_span}, {"kernel in bands", 1, max_span},
                              {"stride in time", 1, max_span}, {"stride in bands", 1, max_span},
                              {"padding before", 0, max_span}, {"padding after", 0, max_span},
                              {"padding below", 0, max_span},  {"padding above", 0, max_span}};
constexpr Setting activation[] = {{"kind", 0, 3}};
constexpr Slot limits[] = {{"limits", true, true}};
constexpr Setting context[] = {{"left", 0, max_span}, {"right", 0, max_span}};
constexpr Setting stacking[] = {{"count", 1, max_span}, {"stride", 1, max_span}};
constexpr Setting subsample[] = {{"factor", 1, max_span}};
constexpr Setting unflatten[] = {{"channels", 1, max_dimension}};

// By LayerKind.
const std::array<Form, 15> forms{{
    {{}, weight_and_bias},                      // linear
    {cell_kind, cells},                         // recurrent
    {conv1d, weight_and_bias},                  // conv1d
    {conv2d, weight_and_bias},                  // conv2d
    {{}, normalisation, 1},                     // batch_norm
    {{}, std::span(normalisation).last(2), 1},  // layer_norm
    {activation, limits, 1},                    // activation
    {context, {}},                              // context_window
    {stacking, {}},                             // frame_stacking
    {subsample, {}},                            // subsample
    {unflatten, {}},                            // unflatten
    {{}, {}},                                   // flatten
    {{}, {}, 0, max_inputs},                    // add
    {{}, {}, 0, max_inputs},                    // concat
    {{}, {}},                                   // log_softmax
}};

// The first byte of a tensor's record; a flag that means nothing to the kind is 0:
//
//   7    6           5                4               3            2 1 0
//   0    rANS codes  scale the same   half centroids  half values  TensorKind
//                    for every row                    or scales
constexpr uint8_t half_values = 8, half_centroids = 16, one_scale = 32, rans_codes = 64;

uint8_t allowed_flags(TensorKind kind) {
  if (kind == TensorKind::vector || kind == TensorKind::dense) return half_values;
  if (kind == TensorKind::coded) return half_values | half_centroids | one_scale | rans_codes;
  return 0;
}

// Codes of `bits` bits after each other, lowest bit first; the last byte is filled up with zeros.
void unpack_codes(std::span<const uint8_t> packed, uint32_t bits, std::span<uint8_t> codes) {
  uint32_t window = 0, held = 0;
  for (uint8_t& code : codes) {
    if (held < bits) {
      window |= static_cast<uint32_t>(packed[0]) << held;
      packed = packed.subspan(1);
      held += 8;
    }
    code = static_cast<uint8_t>(window & ((1u << bits) - 1));
    window >>= bits;
    held -= bits;
  }
  if (window) fail("bits after the last code are not zero");
}

float magnitude(const std::vector<float>& values) {
  float most = 0;
  for (float value : values) most = std::max(most, std::abs(value));
  return most;
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

}  // namespace

Node NodeReader::read(std::span<const Signal> signals) {
  const size_t start = reader_.position();
  Node node;
  node.name = read_name(reader_);
  try {
    read_body(node, signals);
  } catch (const FormatError& error) {
    fail("layer '" + node.name + "': " + error.what());
  }
  node.file_bytes = reader_.position() - start;
  for (const Tensor& tensor : node.tensors) node.file_bytes -= tensor.file_bytes;
  return node;
}

void NodeReader::read_body(Node& node, std::span<const Signal> signals) {
  node.kind = static_cast<LayerKind>(reader_.varint("kind of layer", 0, forms.size() - 1));
  const Form& form = forms[static_cast<size_t>(node.kind)];
  const uint32_t inputs =
      form.most_inputs == 1 ? 1 : reader_.varint("number of inputs", 2, form.most_inputs);
  std::vector<Signal> found;
  for (uint32_t i = 0; i < inputs; ++i) {
    node.inputs.push_back(reader_.varint("input", 0, static_cast<uint32_t>(signals.size() - 1)));
    found.push_back(signals[node.inputs.back()]);
  }
  for (const Setting& setting : form.ints)
    node.ints.push_back(reader_.varint(setting.name, setting.least, setting.most));
  node.floats = reader_.floats(form.floats, false);
  for (const Slot& slot : form.tensors) {
    try {
      node.tensors.push_back(read_tensor(0));
      check_slot(slot, node.tensors.back());
    } catch (const FormatError& error) {
      fail(std::string(slot.name) + ": " + error.what());
    }
  }
  node.signal = infer(node, found);
}

Tensor NodeReader::read_tensor(uint32_t depth) {
  const size_t start = reader_.position();
  Tensor tensor;
  const uint8_t head = reader_.u8(), flags = head & ~7;
  if ((head & 7) > static_cast<uint8_t>(TensorKind::product))
    fail("kind of tensor is " + std::to_string(head & 7) + ", expected 0 to 4");
  tensor.kind = static_cast<TensorKind>(head & 7);
  if (flags & ~allowed_flags(tensor.kind)) fail("a tensor has flags that its kind does not know");
  if (tensor.kind == TensorKind::vector) read_vector(tensor, flags);
  if (tensor.kind == TensorKind::dense || tensor.kind == TensorKind::coded)
    read_leaf(tensor, flags);
  if (tensor.kind == TensorKind::product) read_product(tensor, depth);
  tensor.file_bytes = reader_.position() - start;
  return tensor;
}

void NodeReader::read_product(Tensor& tensor, uint32_t depth) {
  if (depth == max_depth) fail("products lie more than 4 deep");
  for (auto* factor : {&tensor.left, &tensor.right}) {
    *factor = std::make_unique<Tensor>(read_tensor(depth + 1));
    if (!**factor || (*factor)->kind == TensorKind::vector) fail("a factor is not a matrix");
  }
  const Tensor &left = *tensor.left, &right = *tensor.right;
  if (left.columns != right.rows)
    fail("factors do not fit: " + std::to_string(left.columns) + " columns times " +
         std::to_string(right.rows) + " rows");
  tensor.rows = left.rows;
  tensor.columns = right.columns;
}

void NodeReader::read_vector(Tensor& tensor, uint8_t flags) {
  tensor.rows = reader_.varint("length", 1, max_dimension);
  tensor.columns = 1;
  tensor.values = reader_.floats(spend(tensor), flags & half_values);
  tensor.columns = 0;
}

void NodeReader::read_leaf(Tensor& tensor, uint8_t flags) {
  tensor.rows = reader_.varint("rows", 1, max_dimension);
  tensor.columns = reader_.varint("columns", 1, max_dimension);
  if (tensor.kind == TensorKind::coded) return read_coded(tensor, flags);
  tensor.values = reader_.floats(spend(tensor), flags & half_values);
}

void NodeReader::read_coded(Tensor& tensor, uint8_t flags) {
  const uint64_t size = spend(tensor);
  const uint32_t entries = reader_.varint("number of centroids", 2, 256);
  tensor.centroids = reader_.floats(entries, flags & half_centroids);
  tensor.scale = reader_.floats(flags & one_scale ? 1 : tensor.rows, flags & half_values);
  if (!std::isfinite(magnitude(tensor.centroids) * magnitude(tensor.scale)))
    fail("centroids times scales overflow");
  read_codes(tensor, flags, size);
  tensor.scale.resize(tensor.rows, tensor.scale[0]);
}

// Memory is taken only after the bytes that justify it are known to be there.
void NodeReader::read_codes(Tensor& tensor, uint8_t flags, uint64_t size) {
  const auto entries = static_cast<uint32_t>(tensor.centroids.size());
  if (flags & rans_codes) {
    const auto payload = reader_.take(reader_.varint("length of the codes", 1, 1u << 30));
    if (size > max_codes_a_byte * payload.size())
      fail("decodes " + std::to_string(payload.size()) + " bytes to " + std::to_string(size) +
           " codes, expected at most 4096 a byte");
    tensor.codes.resize(size);
    rans_decode(payload, entries, tensor.codes);
    return;
  }
  const uint32_t bits = std::bit_width(entries - 1);
  const auto packed = reader_.take((size * bits + 7) / 8);
  tensor.codes.resize(size);
  unpack_codes(packed, bits, tensor.codes);
  const uint8_t most = *std::max_element(tensor.codes.begin(), tensor.codes.end());
  if (most >= entries)
    fail("code " + std::to_string(most) + " lies outside a table of " + std::to_string(entries));
}

// The size of a leaf, taken off what the whole file may hold.
uint64_t NodeReader::spend(const Tensor& tensor) {
  const uint64_t size = static_cast<uint64_t>(tensor.rows) * tensor.columns;
  if (size > max_matrix)
    fail("a matrix of " + std::to_string(tensor.rows) + " x " + std::to_string(tensor.columns) +
         " weights, expected 2^28 at most");
  if (size > weights_left_) fail("the file holds more than 2^29 weights");
  weights_left_ -= size;
  return size;
}

namespace {

constexpr uint8_t log_probabilities = 1, normalised = 2;

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
  if (flags & normalised) {
    config.mean = reader.floats(config.size(), false);
    config.deviation = reader.floats(config.size(), false);
  }
  if (const char* fault = config.fault()) fail(fault);
  return config;
}

}  // namespace

Speech read_speech(Reader& reader) {
  Speech speech;
  const uint8_t flags = reader.u8();
  if (flags & ~(log_probabilities | normalised)) fail("unknown flags");
  speech.log_probabilities = flags & log_probabilities;
  speech.features = read_features(reader, flags);
  const uint32_t tokens = reader.varint("number of tokens", 1, max_tokens);
  speech.blank = reader.varint("blank", 0, tokens - 1);
  for (uint32_t i = 0; i < tokens; ++i) speech.tokens.push_back(reader.text("a token", max_name));
  return speech;
}

}  // namespace tinyvox
