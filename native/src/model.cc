#include "model.h"

#include <algorithm>

namespace tinyvox {

Model::Model(File file, const Kernels& kernels, size_t threads)
    : input_size_(file.input_size),
      speech_(std::move(file.speech)),
      kernels_(kernels),
      threads_(std::make_unique<Threads>(threads)) {
  Packer packer(kernels);
  for (Node& node : file.nodes) {
    add(node, packer);
    node.tensors.clear();  // so that the whole model is never in memory twice
  }
  if (speech_) features_ = std::make_shared<FeatureTables>(speech_->features);
}

Model::Model(const File& file, const Kernels& kernels, Measured)
    : input_size_(file.input_size), kernels_(kernels), threads_(std::make_unique<Threads>(1)) {
  Packer packer(kernels, Memory::measured);
  for (const Node& node : file.nodes) add(node, packer);
}

void Model::add(const Node& node, Packer& packer) {
  std::vector<Signal> inputs;
  for (uint32_t input : node.inputs) inputs.push_back(signal(input));
  steps_.push_back({make_layer(node, inputs, packer), node.inputs, node.signal});
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
  for (const Step& step : steps_) total += step.layer->bytes();
  return total;
}

size_t Model::signal_size(uint32_t signal) const {
  return signal == 0 ? input_size_ : steps_[signal - 1].signal.size();
}

size_t Model::signal_stride(uint32_t signal) const {
  return signal == 0 ? 1 : steps_[signal - 1].signal.stride;
}

}  // namespace tinyvox
