// Linear layers.
#include "layers/shapes.h"
#include "layers/type.h"
#include "matrix.h"

namespace tinyvox {
namespace {

class Linear : public Layer {
 public:
  Linear(const Node& node, Packer& packer, const Limits& limits = {})
      : weight_(packer.pack(tensors_of<WeightAndBias>(node).weight)),
        bias_(tensors_of<WeightAndBias>(node).bias.values),
        limits_(limits) {
    if (limits.least != -INFINITY) bias_.resize(weight_.rows());  // an end needs one
  }

  size_t bytes() const override { return weight_.bytes() + bias_.size() * sizeof(float); }
  size_t products() const override { return weight_.products(); }
  void reserve(MatrixWork& work) const override { weight_.reserve(work); }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work& work) const override {
    weight_.apply(inputs[0], frames, out, work.matrix,
                  {bias_.empty() ? nullptr : bias_.data(), limits_.least, limits_.most});
  }

 private:
  PackedMatrix weight_;
  std::vector<float> bias_;
  Limits limits_;
};

Signal infer_linear(const Node& node, std::span<const Signal> inputs) {
  const auto [weight, bias] = tensors_of<WeightAndBias>(node);
  expect("input size", flat(inputs[0]), weight.columns);
  expect_length("bias", bias, weight.rows);
  return make_signal(weight.rows, 0, inputs[0].stride);
}

std::unique_ptr<Layer> make_within(const Node& node, std::span<const Signal>, Packer& packer,
                                   const Limits& limits) {
  return std::make_unique<Linear>(node, packer, limits);
}

}  // namespace

constexpr LayerType layer_types::linear{.record = {.tensors = weight_and_bias},
                                        .infer = infer_linear,
                                        .make = make<Linear>,
                                        .make_within = make_within};

void add_bias(const std::vector<float>& bias, size_t frames, float* y) {
  for (size_t frame = 0; frame < frames; ++frame)
    for (size_t i = 0; i < bias.size(); ++i) y[frame * bias.size() + i] += bias[i];
}

}  // namespace tinyvox
