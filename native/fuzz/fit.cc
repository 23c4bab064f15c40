#include "fit.h"

#include <algorithm>
#include <numeric>

#include "layers/type.h"
#include "tensors.h"

namespace tinyvox::fuzz {
namespace {

constexpr uint32_t most_values = 512;  // of a frame
constexpr uint32_t most_span = 12;     // of kernels, contexts and strides
constexpr uint32_t most_stride = 32;   // input frames for a frame

constexpr uint32_t activation_kinds = static_cast<uint32_t>(ActivationKind::reciprocal) + 1;

bool reads_bands(LayerKind kind) {
  using enum LayerKind;
  return kind == batch_norm || kind == activation || kind == subsample || kind == flatten ||
         kind == add || kind == multiply || kind == reduce || kind == pool || kind == take ||
         kind == spread;
}

bool equal(const Signal& a, const Signal& b) {
  return a.channels == b.channels && a.bands == b.bands && a.stride == b.stride;
}

class Fitter {
 public:
  Fitter(File& file, Random& random) : file_(file), random_(random) {}

  void run() {
    signals_ = {{file_.input_size, 0, 1}};
    for (Node& node : file_.nodes) {
      fit(node);
      signals_.push_back(node.signal);
    }
  }

 private:
  const Signal& input(const Node& node) const { return signals_[node.inputs[0]]; }

  void fit(Node& node) {
    if (node.repeats && fit_repeat(node)) return;
    node.repeats.reset();
    if (node.tied && fit_tied(node)) return;
    node.tied.reset();
    complete(node);
    choose_inputs(node);
    try {
      fit_fields(node);
      node.signal = infer(node, inputs_of(node));
      if (node.signal.size() <= most_values && node.signal.stride <= most_stride) return;
    } catch (const FormatError&) {
    }
    node.kind = LayerKind::flatten;
    node.inputs.resize(1);
    complete(node);
    node.signal = infer(node, inputs_of(node));
  }

  // Whether the node can have the layer that it repeats.
  bool fit_repeat(Node& node) {
    const auto at = static_cast<size_t>(&node - file_.nodes.data());
    if (*node.repeats >= at) return false;
    const Node& first = file_.nodes[*node.repeats];
    if (first.repeats || first.inputs.size() != 1 || first.tensors.empty()) return false;
    const Signal& expected = signals_[first.inputs[0]];
    uint32_t from = std::min<uint32_t>(node.inputs[0], static_cast<uint32_t>(at));
    if (signals_[from].channels != expected.channels || signals_[from].bands != expected.bands)
      from = first.inputs[0];
    if (first.kind == LayerKind::embedding) from = 0;
    node.kind = first.kind;
    node.tied.reset();
    node.inputs = {from};
    node.ints = first.ints;
    node.floats = first.floats;
    node.tensors.clear();
    node.tensors.resize(first.tensors.size());
    try {
      node.signal = infer(first, {&signals_[from], 1});
    } catch (const FormatError&) {
      return false;
    }
    return node.signal.size() <= most_values && node.signal.stride <= most_stride;
  }

  // Whether the node can be a linear layer with the table of the embedding that it is tied to,
  // whose output it takes if its own input is of another size.
  bool fit_tied(Node& node) {
    const auto at = static_cast<size_t>(&node - file_.nodes.data());
    if (*node.tied >= at) return false;
    const Node& first = file_.nodes[*node.tied];
    if (first.kind != LayerKind::embedding || first.repeats) return false;
    const Tensor& table = first.tensors[0];
    node.kind = LayerKind::linear;
    node.inputs.resize(1);
    uint32_t& from = node.inputs[0];
    if (from > at || signals_[from].bands || signals_[from].channels != table.columns)
      from = *node.tied + 1;
    complete(node);
    node.tensors[0] = copy(table);
    fit_optional(node.tensors[1], table.rows);
    node.signal = infer(node, inputs_of(node));
    return node.signal.size() <= most_values;
  }

  void complete(Node& node) {
    const Record& record = type_of(node.kind).record;
    const size_t settings = record.settings.size() + record.places;  // one place at least
    if (!record.places || node.ints.size() < settings) node.ints.resize(settings, 1);
    node.floats.resize(record.floats, 1e-3f);
    node.tensors.resize(record.tensors.size());
  }

  std::vector<Signal> inputs_of(const Node& node) const {
    std::vector<Signal> found;
    for (uint32_t input : node.inputs) found.push_back(signals_[input]);
    return found;
  }

  void choose_inputs(Node& node) {
    node.inputs.resize(joins(node.kind) ? std::max<size_t>(2, node.inputs.size()) : 1);
    if (node.kind == LayerKind::spread) return choose_spread(node);
    const auto count = static_cast<uint32_t>(signals_.size());
    for (uint32_t& input : node.inputs)
      if (input >= count) input = count - 1;
    if (node.kind == LayerKind::conv2d && !input(node).bands) node.kind = LayerKind::unflatten;
    if (node.kind == LayerKind::unflatten) complete(node);
    if (node.kind == LayerKind::embedding) node.inputs = {0};
    if (node.kind == LayerKind::elementwise_recurrence) node.inputs.resize(2);
    const bool flat = !reads_bands(node.kind) && node.kind != LayerKind::conv2d;
    for (uint32_t& input : node.inputs) {
      if (flat && signals_[input].bands) input = 0;
      const Signal &first = signals_[node.inputs[0]], &own = signals_[input];
      const bool fits =
          node.kind == LayerKind::concat ? own.stride == first.stride : equal(own, first);
      if (!fits) input = node.inputs[0];
    }
  }

  // The last frame of a whole utterance that there is, beside a signal of many.
  void choose_spread(Node& node) {
    uint32_t other = std::min(node.inputs[0], static_cast<uint32_t>(signals_.size() - 1));
    if (!signals_[other].stride) other = 0;
    node.inputs = {0, other};
    for (uint32_t i = 0; i < signals_.size(); ++i)
      if (!signals_[i].stride) node.inputs[0] = i;
  }

  void fit_fields(Node& node) {
    const Signal& from = input(node);
    if (!random_.one_in(64))
      for (uint32_t& setting : node.ints) setting = std::min(setting, most_span);
    switch (node.kind) {
      case LayerKind::linear:
        return fit_weight(node, node.tensors[0].rows, from.channels);
      case LayerKind::recurrent:
        return fit_recurrent(node, from);
      case LayerKind::conv1d:
        return fit_conv1d(node, from);
      case LayerKind::conv2d:
        return fit_conv2d(node, from);
      case LayerKind::layer_norm:
        node.ints[0] %= 2;
        node.ints[1] = std::gcd(std::max(1u, node.ints[1]), from.channels);
        [[fallthrough]];
      case LayerKind::batch_norm:
        for (Tensor& tensor : node.tensors) fit_vector(tensor, from.channels);
        return fit_variance(node);
      case LayerKind::activation:
        return fit_limits(node, from);
      case LayerKind::embedding:
        return fit_matrix(node.tensors[0], std::max(1u, node.tensors[0].rows),
                          node.tensors[0].columns ? node.tensors[0].columns : random_.size(24));
      case LayerKind::elementwise_recurrence:
        node.ints[0] %= 2;
        return fit_optional(node.tensors[0], from.channels);
      case LayerKind::reduce:
        node.ints[0] %= 8;
        return;
      case LayerKind::softmax:
        node.ints[0] %= 2;
        return;
      case LayerKind::pool:
        return fit_pool(node, from);
      case LayerKind::take:
        return fit_take(node, from);
      case LayerKind::slice:
        node.ints[0] %= from.channels;
        node.ints[1] = node.ints[0] + 1 + node.ints[1] % (from.channels - node.ints[0]);
        return;
      case LayerKind::unflatten:
        node.ints[0] = std::gcd(std::max(1u, node.ints[0]), from.channels);
        return;
      default:
        return raise(node);
    }
  }

  void fit_pool(Node& node, const Signal& from) {
    auto& ints = node.ints;
    ints[0] %= 3;
    for (size_t i = 1; i < 5; ++i) ints[i] = std::max(1u, ints[i]);
    ints[2] = std::min(ints[2], std::max(1u, from.bands));
    for (size_t i = 0; i < 4; ++i) ints[5 + i] %= ints[1 + i / 2];
  }

  void fit_take(Node& node, const Signal& from) {
    node.ints[0] %= from.bands ? 2 : 1;
    const uint32_t size = node.ints[0] ? from.bands : from.channels;
    for (uint32_t& place : std::span(node.ints).subspan(1)) place %= size + 1;
  }

  // Zero is no count, stride or factor.
  void raise(Node& node) {
    if (node.kind == LayerKind::context_window) return;
    for (uint32_t& setting : node.ints) setting = std::max(1u, setting);
  }

  void fit_vector(Tensor& vector, uint32_t length) {
    if (vector.kind != TensorKind::vector) vector = make_vector(length, random_);
    resize_vector(vector, length, random_);
  }

  void fit_optional(Tensor& vector, uint32_t length) {
    if (vector) fit_vector(vector, length);
  }

  void fit_matrix(Tensor& matrix, uint32_t rows, uint32_t columns) {
    if (!matrix || matrix.kind == TensorKind::vector)
      matrix = make_matrix(rows, columns, random_);
    else
      resize_matrix(matrix, rows, columns, random_);
  }

  void fit_weight(Node& node, uint32_t rows, uint32_t columns) {
    fit_matrix(node.tensors[0], rows ? rows : random_.size(24), columns);
    fit_optional(node.tensors[1], node.tensors[0].rows);
  }

  void fit_recurrent(Node& node, const Signal& from) {
    node.ints[0] %= 6;
    node.ints[3] %= 2;
    node.floats[0] = std::abs(node.floats[0]);
    const auto kind = static_cast<RecurrentKind>(node.ints[0]);
    const bool plain = kind == RecurrentKind::rnn_tanh || kind == RecurrentKind::rnn_relu;
    node.ints[1] = plain ? 0 : node.ints[1] % 3;
    node.ints[2] = kind == RecurrentKind::rnn_relu ? 0 : node.ints[2] % 4;
    const std::span tensors(node.tensors);
    if (!node.tensors[1] && !node.tensors[cell_tensors + 1])
      node.tensors[1] = make_matrix(1, random_.size(24), random_);
    for (size_t slot : {size_t{0}, cell_tensors})
      if (node.tensors[slot + 1])
        fit_cell(node.ints[0], tensors.subspan(slot, cell_tensors), from.channels);
  }

  void fit_cell(uint32_t kind, std::span<Tensor> cell, uint32_t inputs) {
    constexpr uint32_t gates[] = {4, 3, 1, 1, 3, 2};
    if (kind != static_cast<uint32_t>(RecurrentKind::lstm))
      cell[4] = {}, cell[5] = {}, cell[8] = {};
    if (kind != static_cast<uint32_t>(RecurrentKind::gru)) cell[3] = {};
    if (kind == static_cast<uint32_t>(RecurrentKind::gru_reset_before)) cell[6] = {};
    if (!cell[6]) cell[7] = {};
    if (cell[6]) cell[3] = {};
    const uint32_t size = cell[1].columns ? cell[1].columns : random_.size(24);
    const uint32_t hidden = cell[4].columns ? cell[4].columns : size, rows = gates[kind] * hidden;
    if (cell[0] || inputs != rows) fit_matrix(cell[0], rows, inputs);
    fit_matrix(cell[1], rows, size);
    fit_optional(cell[2], rows);
    fit_optional(cell[3], hidden);
    if (cell[4]) fit_matrix(cell[4], size, hidden);
    fit_optional(cell[5], 3 * hidden);
    fit_optional(cell[6], rows);
    fit_optional(cell[7], rows);
    fit_optional(cell[8], 2 * hidden);
  }

  void fit_conv1d(Node& node, const Signal& from) {
    for (size_t i : {0, 1, 2, 5}) node.ints[i] = std::max(1u, node.ints[i]);
    const uint32_t groups = node.ints[5] = std::gcd(node.ints[5], from.channels);
    const uint32_t rows = std::max(1u, node.tensors[0].rows / groups) * groups;
    fit_weight(node, rows, from.channels / groups * node.ints[0]);
  }

  void fit_conv2d(Node& node, const Signal& from) {
    for (size_t i : {0, 1, 2, 3, 8, 9, 10}) node.ints[i] = std::max(1u, node.ints[i]);
    const uint32_t bands = from.bands + node.ints[6] + node.ints[7];
    node.ints[1] = std::min(node.ints[1], bands);
    if (node.ints[1] > 1) node.ints[9] = std::min(node.ints[9], (bands - 1) / (node.ints[1] - 1));
    const uint32_t groups = node.ints[10] = std::gcd(node.ints[10], from.channels);
    const uint32_t rows = std::max(1u, node.tensors[0].rows / groups) * groups;
    fit_weight(node, rows, from.channels / groups * node.ints[0] * node.ints[1]);
  }

  void fit_variance(Node& node) {
    node.floats[0] = std::abs(node.floats[0]);
    if (node.kind != LayerKind::batch_norm) return;
    for (float& variance : node.tensors[1].values) {
      variance = std::abs(variance);
      if (variance + node.floats[0] <= 0) node.floats[0] = 1e-3f;
    }
  }

  void fit_limits(Node& node, const Signal& from) {
    node.ints[0] %= activation_kinds;
    Tensor &limits = node.tensors[0], &slopes = node.tensors[1];
    if (static_cast<ActivationKind>(node.ints[0]) == ActivationKind::leaky_relu)
      fit_vector(slopes, random_.one_in(2) ? 1 : from.channels);
    else
      slopes = {};
    if (node.ints[0] != static_cast<uint32_t>(ActivationKind::clipped_relu)) limits = {};
    fit_optional(limits, from.channels);
    for (float& limit : limits.values) limit = std::max(std::abs(limit), 1e-30f);
    const bool one = node.ints[0] == static_cast<uint32_t>(ActivationKind::clipped_relu) && !limits;
    node.floats[0] = one ? std::max(std::abs(node.floats[0]), 1e-30f) : 0.0f;
  }

  File& file_;
  Random& random_;
  std::vector<Signal> signals_;
};

void fit_features(FeatureConfig& features, uint32_t size, Random& random) {
  if (features.kind == FeatureKind::log_mel) {
    features.bands = size;
  } else {
    features.coefficients = size;
    features.bands = std::max(features.bands, size);
  }
  for (auto* values : {&features.mean, &features.deviation})
    if (!features.mean.empty()) values->resize(size, 1.0f);
  if (features.fault().empty() || random.one_in(16)) return;
  FeatureConfig usable;
  usable.kind = features.kind;
  usable.bands = std::max(size, usable.bands);
  usable.coefficients = features.coefficients;
  if (usable.kind == FeatureKind::log_mel) usable.bands = size;
  features = usable;
}

// A card cannot describe frames of several bands, nor more features than bands may be.
void fit_speech(File& file, Random& random) {
  const Signal& output = file.nodes.back().signal;
  const auto takes_ids = [](const Node& node) { return node.kind == LayerKind::embedding; };
  if (output.bands || file.input_size > 256 || std::ranges::any_of(file.nodes, takes_ids)) {
    file.speech.reset();
    return;
  }
  fit_features(file.speech->features, file.input_size, random);
  file.speech->tokens.resize(output.channels, "x");
  file.speech->blank = std::min(file.speech->blank, output.channels - 1);
}

void follow_trellises(File& file) {
  for (Node& node : file.nodes)
    for (Tensor& tensor : node.tensors)
      for_each_leaf(tensor, [](Tensor& leaf) {
        if (leaf && leaf.codebook == CodebookKind::trellis) follow_trellis(leaf);
      });
}

// Gives layers names of their own.
void fit_names(File& file) {
  std::vector<std::string> names{"", "input"};
  for (Node& node : file.nodes) {
    while (std::ranges::find(names, node.name) != names.end())
      node.name = node.name.substr(0, 20) + std::to_string(names.size());
    names.push_back(node.name);
  }
}

}  // namespace

void fit(File& file, Random& random) {
  file.input_size = std::clamp(file.input_size, 1u, most_values);
  Fitter(file, random).run();
  follow_trellises(file);
  fit_names(file);
  if (file.speech) fit_speech(file, random);
}

}  // namespace tinyvox::fuzz
