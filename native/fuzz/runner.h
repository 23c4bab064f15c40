// Runs a model over features, in one piece or in many.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "random.h"
#include "stream.h"

namespace tinyvox::fuzz {

// A model without its card, on one instruction set, and a stream of it.
struct Runner {
  std::shared_ptr<const Model> model;
  Stream stream;

  Runner(std::span<const uint8_t> bytes, const Kernels& kernels)
      : model(make(bytes, kernels)), stream(model) {}

  static std::shared_ptr<const Model> make(std::span<const uint8_t> bytes, const Kernels& kernels) {
    File file = parse(bytes);
    file.speech.reset();
    return std::make_shared<const Model>(std::move(file), kernels);
  }

  // The outputs, with the features in one piece, or in random ones.
  std::vector<float> run(std::span<const float> features, Random* cuts = nullptr) {
    std::vector<float> outputs;
    const size_t size = model->input_size();
    while (!features.empty()) {
      const size_t left = features.size() / size;
      const size_t frames = cuts ? std::min<size_t>(left, cuts->below(5)) : left;
      stream.push(features.data(), frames);
      features = features.subspan(frames * size);
      if (!cuts || cuts->one_in(2)) take(outputs);
    }
    stream.finish();
    take(outputs);
    return outputs;
  }

 private:
  void take(std::vector<float>& outputs) {
    Frames& found = stream.outputs();
    outputs.insert(outputs.end(), found.data(),
                   found.data() + found.count() * model->output_size());
    found.drop(found.count());
  }
};

}  // namespace tinyvox::fuzz
