#include "model.h"

#include <algorithm>
#include <set>
#include <string_view>

namespace tinyvox {
namespace {

// What tokens are printed as: in pieces of words U+2581 stands for a space, and without a token for
// a space "|" does. src/tinyvox/model/card.py has the same rule.
void print_spaces(std::vector<std::string>& tokens) {
  constexpr std::string_view piece_space = "\xE2\x96\x81";
  for (std::string& token : tokens)
    for (size_t at; (at = token.find(piece_space)) != token.npos;)
      token.replace(at, piece_space.size(), " ");
  if (std::find(tokens.begin(), tokens.end(), " ") == tokens.end())
    std::replace(tokens.begin(), tokens.end(), std::string("|"), std::string(" "));
}

// The limits that each node ends with: of the activation that alone reads it, and which then is no
// step of its own.
Model::Ends ends_of(const std::vector<Node>& nodes) {
  std::vector<size_t> readers(nodes.size() + 1), repeats(nodes.size());
  ++readers.back();
  for (const Node& node : nodes) {
    for (uint32_t input : node.inputs) ++readers[input];
    if (node.repeats) ++repeats[*node.repeats];
  }
  const auto shared = [&](size_t i) { return nodes[i].repeats || repeats[i]; };
  Model::Ends ends(nodes.size());
  for (size_t i = 0; i < nodes.size(); ++i) {
    const std::optional<Limits> limits = limits_of(nodes[i]);
    if (!limits || shared(i) || nodes[i].inputs[0] == 0) continue;
    const size_t before = nodes[i].inputs[0] - 1;
    if (nodes[before].kind == LayerKind::linear && readers[before + 1] == 1 && !shared(before))
      ends[before] = limits;
  }
  return ends;
}

}  // namespace

Model::Model(File file, const Kernels& kernels, size_t threads)
    : input_size_(file.input_size),
      speech_(std::move(file.speech)),
      kernels_(kernels),
      threads_(std::make_unique<Threads>(threads)) {
  Packer packer(kernels);
  const auto ends = ends_of(file.nodes);
  for (size_t i = 0; i < file.nodes.size(); ++i) {
    add(file.nodes[i], ends, packer);
    file.nodes[i].tensors.clear();  // so that the whole model is never in memory twice
  }
  if (speech_) print_spaces(speech_->tokens);
  if (speech_) features_ = std::make_shared<FeatureTables>(speech_->features);
}

Model::Model(const File& file, const Kernels& kernels, Measured)
    : input_size_(file.input_size), kernels_(kernels), threads_(std::make_unique<Threads>(1)) {
  Packer packer(kernels, Memory::measured);
  const auto ends = ends_of(file.nodes);
  for (const Node& node : file.nodes) add(node, ends, packer);
}

void Model::add(const Node& node, const Ends& ends, Packer& packer) {
  std::vector<uint32_t> numbers;
  std::vector<Signal> inputs;
  for (uint32_t input : node.inputs) {
    numbers.push_back(numbers_[input]);
    inputs.push_back(signal(numbers.back()));
  }
  const size_t which = numbers_.size() - 1;
  if (node.inputs[0] > 0 && ends[node.inputs[0] - 1]) {  // its one reader
    numbers_.push_back(numbers[0]);
    return;
  }
  std::shared_ptr<const Layer> layer =
      node.repeats ? steps_[numbers_[*node.repeats + 1] - 1].layer
                   : make_layer(node, inputs, packer, ends[which].value_or(Limits{}));
  if (const size_t ids = layer->ids(); ids && (!ids_ || ids < ids_)) ids_ = ids;
  steps_.push_back({std::move(layer), std::move(numbers), node.signal});
  numbers_.push_back(static_cast<uint32_t>(steps_.size()));
}

Signal Model::signal(uint32_t which) const {
  return which == 0 ? Signal{static_cast<uint32_t>(input_size_), 0, 1} : steps_[which - 1].signal;
}

double Model::products() const {
  double total = 0;
  for (const Step& step : steps_) {
    const size_t one = step.layer->products() + step.signal.size();
    total += static_cast<double>(one) / std::max(1u, step.signal.stride);
  }
  return total;
}

size_t Model::bytes() const {
  size_t total = 0;
  std::set<const Layer*> counted;
  for (const Step& step : steps_)
    if (counted.insert(step.layer.get()).second) total += step.layer->bytes();
  return total;
}

size_t Model::signal_size(uint32_t signal) const {
  return signal == 0 ? input_size_ : steps_[signal - 1].signal.size();
}

size_t Model::signal_stride(uint32_t signal) const {
  return signal == 0 ? 1 : steps_[signal - 1].signal.stride;
}

}  // namespace tinyvox
