#include "write.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <ranges>

#include "bytes.h"
#include "coded.h"
#include "fit.h"
#include "rans.h"
#include "records.h"
#include "tensors.h"

namespace tinyvox::fuzz {
namespace {

constexpr size_t header = 24, entry = 24, checksum = 4;
constexpr uint8_t half_values = 8, half_levels = 16, scale_a_group = 32, model_a_group = 64,
                  fine_input = 128;
constexpr uint8_t log_probabilities = 1, normalized = 2, floored = 4;

void put(Bytes& out, uint64_t value, size_t width) {
  for (size_t i = 0; i < width; ++i) out.push_back(static_cast<uint8_t>(value >> 8 * i));
}

void put_varint(Bytes& out, uint32_t value) {
  for (; value > 127; value >>= 7) out.push_back(static_cast<uint8_t>(value | 128));
  out.push_back(static_cast<uint8_t>(value));
}

void put(Bytes& out, std::span<const uint8_t> bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void put_text(Bytes& out, const std::string& text) {
  put_varint(out, static_cast<uint32_t>(text.size()));
  out.insert(out.end(), text.begin(), text.end());
}

// Truncates the fraction, and gives infinity for what is too large.
uint16_t to_half(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value), sign = bits >> 16 & 0x8000;
  const int exponent = static_cast<int>(bits >> 23 & 255) - 112;
  if (exponent >= 31) return static_cast<uint16_t>(sign | 0x7C00);
  if (exponent > 0) return static_cast<uint16_t>(sign | exponent << 10 | (bits >> 13 & 1023));
  return static_cast<uint16_t>(sign | static_cast<uint32_t>(std::abs(value) * 0x1p24f));
}

void put_floats(Bytes& out, std::span<const float> values, bool half = false) {
  for (float value : values)
    put(out, half ? to_half(value) : std::bit_cast<uint32_t>(value), half ? 2 : 4);
}

void put_packed(Bytes& out, std::span<const uint8_t> codes, uint32_t bits) {
  uint32_t window = 0, held = 0;
  for (uint8_t code : codes) {
    window |= static_cast<uint32_t>(code) << held;
    for (held += bits; held >= 8; held -= 8, window >>= 8)
      out.push_back(static_cast<uint8_t>(window));
  }
  if (held) out.push_back(static_cast<uint8_t>(window));
}

void put_codes(Bytes& out, std::span<const uint8_t> codes, const CodeShape& shape, bool packed) {
  if (packed) {
    out.push_back(0);
    return put_packed(out, codes, std::bit_width(shape.entries - 1));
  }
  const Bytes payload = rans_encode(codes, shape);
  put_varint(out, static_cast<uint32_t>(payload.size()));
  put(out, payload);
}

// The value of each group's first row.
template <typename T>
std::vector<T> by_group(const std::vector<T>& rows, const Tensor& tensor) {
  std::vector<T> values;
  for (uint32_t group = 0; group < tensor.groups; ++group) {
    const auto row = std::ranges::find(tensor.group, group) - tensor.group.begin();
    values.push_back(rows[static_cast<size_t>(row) % rows.size()]);
  }
  return values;
}

constexpr size_t max_settings = 11;

// The settings of a record before signals_version.
size_t settings_before_signals(LayerKind kind) {
  if (kind == LayerKind::recurrent) return 3;
  return kind == LayerKind::layer_norm || kind == LayerKind::softmax ? 0 : max_settings;
}

// The settings of a record before varying_version.
size_t oldest_settings(LayerKind kind) {
  if (kind == LayerKind::recurrent) return 1;
  return kind == LayerKind::conv2d ? 8 : settings_before_signals(kind);
}

size_t settings_of(LayerKind kind, uint32_t version) {
  return version < varying_version   ? oldest_settings(kind)
         : version < signals_version ? settings_before_signals(kind)
                                     : max_settings;
}

// A setting; 0 where there is none: what a mutation makes need not have all fields of its kind.
uint32_t setting(const Node& node, size_t which) {
  return which < node.ints.size() ? node.ints[which] : 0;
}

// Whether a node needs what came in signals_version, beside tensors.
bool is_new(const Node& node) {
  if (type_of(node.kind).since >= signals_version || node.tied) return true;
  if (node.kind != LayerKind::recurrent || node.repeats) return false;
  if (setting(node, 0) > 4 || setting(node, 3)) return true;
  for (size_t slot = 0; slot + 1 < node.tensors.size(); slot += cell_tensors)
    if (!node.tensors[slot] && node.tensors[slot + 1]) return true;
  return false;
}

// The first version with a tensor.
uint32_t since(LayerKind kind, size_t slot) {
  if (kind == LayerKind::activation && slot == 1) return gating_version;
  if (kind != LayerKind::recurrent || slot % cell_tensors < 4) return 0;
  if (slot % cell_tensors > 5) return signals_version;
  return slot % cell_tensors == 4 ? projecting_version : varying_version;
}

class Writer {
 public:
  Writer(uint32_t version, Random& random) : version_(version), random_(random) {}

  Bytes model(const File& file) {
    put_varint(out_, file.input_size);
    put_varint(out_, static_cast<uint32_t>(file.nodes.size()));
    for (const Node& node : file.nodes) put_node(node);
    return std::move(out_);
  }

 private:
  void put_node(const Node& node) {
    put_text(out_, node.name);
    if (node.repeats) {
      put_varint(out_, repeat_kind);
      put_varint(out_, *node.repeats);
      return put_varint(out_, node.inputs[0]);
    }
    if (node.tied && node.tensors.size() == 2 && version_ >= signals_version) {
      put_varint(out_, tied_kind);
      put_varint(out_, *node.tied);
      put_varint(out_, node.inputs[0]);
      return put_tensor(node.tensors[1], 0);
    }
    put_varint(out_, static_cast<uint32_t>(node.kind));
    if (joins(node.kind)) put_varint(out_, static_cast<uint32_t>(node.inputs.size()));
    for (uint32_t input : node.inputs) put_varint(out_, input);
    if (node.kind == LayerKind::take) {
      put_take(node);
    } else {
      const size_t settings = settings_of(node.kind, version_);
      for (uint32_t setting : std::views::take(node.ints, settings)) put_varint(out_, setting);
    }
    if (node.kind != LayerKind::recurrent || version_ >= signals_version)
      put_floats(out_, node.floats);
    for (size_t slot = 0; slot < node.tensors.size(); ++slot)
      if (version_ >= since(node.kind, slot)) put_tensor(node.tensors[slot], 0);
  }

  void put_take(const Node& node) {
    const auto places = std::views::drop(node.ints, 1);
    put_varint(out_, setting(node, 0));
    put_varint(out_, static_cast<uint32_t>(places.size()));
    for (uint32_t place : places) put_varint(out_, place);
  }

  // A product whose right factor was written before shares it.
  void put_tensor(const Tensor& tensor, size_t depth) {
    if (tensor.kind == TensorKind::absent) return out_.push_back(0);
    if (tensor.kind == TensorKind::vector) return put_vector(tensor);
    if (!tensor.left) return put_leaf(tensor);
    const auto known = std::ranges::find(factors_, tensor.right.get());
    const bool shares = depth == 0 && version_ >= sharing_version && known != factors_.end();
    out_.push_back(static_cast<uint8_t>(shares ? TensorKind::shared : TensorKind::product));
    put_tensor(*tensor.left, depth + 1);
    if (shares) return put_varint(out_, static_cast<uint32_t>(known - factors_.begin()));
    put_tensor(*tensor.right, depth + 1);
    if (depth == 0) factors_.push_back(tensor.right.get());
  }

  void put_vector(const Tensor& tensor) {
    const bool half = random_.one_in(4);
    out_.push_back(static_cast<uint8_t>(tensor.kind) | (half ? half_values : 0));
    put_varint(out_, static_cast<uint32_t>(tensor.values.size()));
    put_floats(out_, tensor.values, half);
  }

  void put_leaf(const Tensor& tensor) {
    const bool coded = tensor.kind == TensorKind::coded, grouped = coded && tensor.groups > 1;
    const bool levels = coded && !tensor.levels.empty();
    uint8_t flags = random_.one_in(4) ? half_values : 0;
    if (levels && random_.one_in(4)) flags |= half_levels;
    if (grouped && random_.one_in(2)) flags |= scale_a_group;
    if (grouped && random_.one_in(2)) flags |= model_a_group;
    if (coded && tensor.fine_input && version_ >= signals_version) flags |= fine_input;
    out_.push_back(static_cast<uint8_t>(tensor.kind) | flags);
    put_varint(out_, tensor.rows);
    put_varint(out_, tensor.columns);
    if (coded) return put_coded(tensor, flags);
    put_floats(out_, tensor.values, flags & half_values);
  }

  void put_coded(const Tensor& tensor, uint8_t flags) {
    put_varint(out_, static_cast<uint32_t>(tensor.codebook));
    put_varint(out_, tensor.groups);
    if (tensor.groups > 1)
      put_codes(out_, tensor.group, {tensor.rows, 1, tensor.groups, {}}, random_.one_in(2));
    put_codebook(tensor, flags);
    put_floats(out_, flags & scale_a_group ? by_group(tensor.scale, tensor) : tensor.scale,
               flags & half_values);
    CodeShape shape{tensor.rows, tensor.columns, tensor.entries, {}};
    if (flags & model_a_group) {
      shape.group = tensor.group;
      shape.groups = tensor.groups;
    }
    const bool trellis = tensor.codebook == CodebookKind::trellis;
    if (trellis) shape.trellis = tensor.zero[0];
    put_codes(out_, tensor.codes, shape, !trellis && random_.one_in(2));
  }

  void put_codebook(const Tensor& tensor, uint8_t flags) {
    put_varint(out_, tensor.entries);
    if (!tensor.zero.empty()) {
      const bool several = tensor.zero.size() > 1 && flags & scale_a_group;
      const auto zero = several ? by_group(tensor.zero, tensor) : tensor.zero;
      put_varint(out_, static_cast<uint32_t>(zero.size()));
      return put(out_, zero);
    }
    if (tensor.codebook == CodebookKind::table)
      put_varint(out_, tensor.levels.size() > tensor.entries ? tensor.groups : 1);
    put_floats(out_, tensor.levels, flags & half_levels);
  }

  uint32_t version_;
  Random& random_;
  Bytes out_;
  std::vector<const Tensor*> factors_;
};

// The first version that knows the kind of a node and its settings.
uint32_t since(const Node& node) {
  if (is_new(node)) return signals_version;
  const LayerType& type = type_of(node.kind);
  const uint32_t first = setting(node, 0);
  const bool activates = node.kind == LayerKind::activation;
  const uint32_t usual = node.kind == LayerKind::conv2d;  // no dilation, one group
  const auto unusual = [&](uint32_t setting) { return setting != usual; };
  const bool normalizes =
      node.kind == LayerKind::layer_norm && (first != 0 || setting(node, 1) != 1);
  const bool signals = normalizes || (activates && first > 17) ||
                       (node.kind == LayerKind::reduce && first > 3) ||
                       (node.kind == LayerKind::softmax && first > 0);
  if (signals) return signals_version;
  const bool varies =
      node.kind != LayerKind::layer_norm &&
      ((node.kind == LayerKind::recurrent && first > 3) ||
       std::ranges::any_of(std::views::drop(node.ints, oldest_settings(node.kind)), unusual));
  if (type.since == varying_version || varies || (activates && first > 10)) return varying_version;
  return node.repeats || type.since == gating_version || (activates && first > 3) ? gating_version
                                                                                  : 2;
}

Bytes write_speech(const Speech& speech) {
  const FeatureConfig& features = speech.features;
  const bool normalizes = !features.mean.empty();
  Bytes out{
      static_cast<uint8_t>((speech.log_probabilities ? log_probabilities : 0) |
                           (normalizes ? normalized : 0) | (features.noise_floor_db ? floored : 0)),
      static_cast<uint8_t>(features.kind)};
  for (uint32_t value : {features.sample_rate, features.bands, features.coefficients})
    put_varint(out, value);
  put_floats(out,
             std::array{features.window_ms, features.hop_ms, features.low_hz, features.high_hz});
  if (features.noise_floor_db) put_floats(out, std::array{*features.noise_floor_db});
  put_floats(out, features.mean);
  put_floats(out, features.deviation);
  put_varint(out, static_cast<uint32_t>(speech.tokens.size()));
  put_varint(out, speech.blank);
  for (const std::string& token : speech.tokens) put_text(out, token);
  return out;
}

}  // namespace

Bytes write(const File& file, uint32_t version, Random& random) {
  std::vector<Section> sections{{"MODL", Writer(version, random).model(file)}};
  if (file.speech) sections.push_back({"SPCH", write_speech(*file.speech)});
  if (!file.metadata.empty())
    sections.push_back({"META", {file.metadata.begin(), file.metadata.end()}});
  return seal(sections, version);
}

Bytes seal(std::span<const Section> sections, uint32_t version, const FileKind& kind) {
  uint64_t offset = header + sections.size() * entry + checksum, size = offset;
  for (const Section& section : sections) size += section.bytes.size();
  Bytes out(kind.magic.begin(), kind.magic.end());
  put(out, version, 4);
  put(out, sections.size(), 4);
  put(out, size, 8);
  for (const Section& section : sections) {
    out.insert(out.end(), section.tag.begin(), section.tag.end());
    put(out, crc32(section.bytes), 4);
    put(out, offset, 8);
    put(out, section.bytes.size(), 8);
    offset += section.bytes.size();
  }
  put(out, crc32(out), 4);
  for (const Section& section : sections) put(out, section.bytes);
  return out;
}

uint32_t version_of(std::span<const uint8_t> file) {
  return file.size() < header ? 0 : load_u32(&file[8]);
}

std::vector<Section> sections_of(std::span<const uint8_t> file) {
  std::vector<Section> sections;
  const size_t count = file.size() < header ? 0 : std::min(load_u32(&file[12]), 8u);
  for (size_t i = 0; i < count && file.size() >= header + (i + 1) * entry; ++i) {
    const uint8_t* at = &file[header + i * entry];
    const size_t offset = std::min<size_t>(load_u32(at + 8), file.size());
    const auto bytes =
        file.subspan(offset, std::min<size_t>(load_u32(at + 16), file.size() - offset));
    sections.push_back({{at, at + 4}, {bytes.begin(), bytes.end()}});
  }
  return sections;
}

uint32_t version_for(const File& file) {
  const bool floored = file.speech && file.speech->features.noise_floor_db;
  uint32_t version = floored ? gating_version : 2;
  std::vector<const Tensor*> factors;
  for (const Node& node : file.nodes) {
    version = std::max(version, since(node));
    for (size_t slot = 0; slot < node.tensors.size(); ++slot) {
      const Tensor& tensor = node.tensors[slot];
      if (tensor) version = std::max(version, since(node.kind, slot));
      if (!tensor.right) continue;
      if (std::ranges::find(factors, tensor.right.get()) != factors.end())
        version = std::max(version, sharing_version);
      factors.push_back(tensor.right.get());
    }
  }
  return version;
}

}  // namespace tinyvox::fuzz
