// Normalization: of each channel by fixed numbers, of each frame by itself.
#include <algorithm>
#include <cmath>

#include "bytes.h"
#include "layers/shapes.h"
#include "layers/type.h"

namespace tinyvox {
namespace {

constexpr Slot batch_norm_slots[] = {{"mean", true, false},
                                     {"variance", true, false},
                                     {"weight", true, false},
                                     {"bias", true, false}};
constexpr Setting layer_norm_settings[] = {{"kind", 0, 1, signals_version},
                                           {"groups", 1, max_dimension, signals_version}};

// y = x * factor + offset, with one factor and one offset for each channel.
class BatchNorm : public Layer {
 public:
  BatchNorm(const Node& node, const Signal& input) : bands_(std::max(1u, input.bands)) {
    const auto [mean, variance, weight, bias] = tensors_of<BatchNormTensors>(node);
    const float eps = fields_of<BatchNormFields>(node).eps;
    for (size_t i = 0; i < mean.values.size(); ++i) {
      const float deviation = std::sqrt(variance.values[i] + eps);
      factor_.push_back(weight.values[i] / deviation);
      offset_.push_back(bias.values[i] - mean.values[i] * factor_.back());
    }
  }

  size_t bytes() const override { return 2 * factor_.size() * sizeof(float); }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work&) const override {
    const float* x = inputs[0];
    for (size_t frame = 0; frame < frames; ++frame)
      for (size_t channel = 0; channel < factor_.size(); ++channel)
        for (size_t band = 0; band < bands_; ++band)
          *out++ = *x++ * factor_[channel] + offset_[channel];
  }

 private:
  size_t bands_;
  std::vector<float> factor_, offset_;
};

Signal infer_batch_norm(const Node& node, std::span<const Signal> inputs) {
  const auto [mean, variance, weight, bias] = tensors_of<BatchNormTensors>(node);
  const float eps = fields_of<BatchNormFields>(node).eps;
  const uint32_t channels = inputs[0].channels;
  check_eps(eps);
  expect_length("mean", mean, channels);
  expect_length("variance", variance, channels);
  expect_length("weight", weight, channels);
  expect_length("bias", bias, channels);
  for (float each : variance.values)
    if (!(each >= 0 && each + eps > 0)) fail("variance plus eps is not above 0");
  return inputs[0];
}

// Each group of values scaled to mean 0 and variance 1, or to mean square 1 alone.
class LayerNorm : public Layer {
 public:
  explicit LayerNorm(const Node& node)
      : LayerNorm(fields_of<LayerNormFields>(node), tensors_of<WeightAndBias>(node)) {}

  size_t bytes() const override { return 2 * weight_.size() * sizeof(float); }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work&) const override {
    const size_t size = weight_.size();
    for (size_t frame = 0; frame < frames; ++frame)
      for (size_t start = 0; start < size; start += count_)
        normalize(inputs[0] + frame * size + start, out + frame * size + start, start);
  }

 private:
  LayerNorm(const LayerNormFields& fields, const WeightAndBias& tensors)
      : centers_(fields.kind == NormKind::layer),
        weight_(tensors.weight.values),
        bias_(tensors.bias.values),
        count_(weight_.size() / fields.groups),
        eps_(fields.eps) {}

  void normalize(const float* x, float* y, size_t start) const {
    const auto count = static_cast<double>(count_);
    double sum = 0, squares = 0;
    for (size_t i = 0; i < count_; ++i) sum += x[i];
    const double mean = centers_ ? sum / count : 0.0;
    for (size_t i = 0; i < count_; ++i) squares += (x[i] - mean) * (x[i] - mean);
    const double inverse = 1.0 / std::sqrt(squares / count + eps_);
    for (size_t i = 0; i < count_; ++i)
      y[i] = static_cast<float>((x[i] - mean) * inverse) * weight_[start + i] + bias_[start + i];
  }

  bool centers_;
  std::vector<float> weight_, bias_;
  size_t count_;  // values of a group
  float eps_;
};

Signal infer_layer_norm(const Node& node, std::span<const Signal> inputs) {
  const auto fields = fields_of<LayerNormFields>(node);
  const auto [weight, bias] = tensors_of<WeightAndBias>(node);
  check_eps(fields.eps);
  expect("input size modulo groups", flat(inputs[0]) % fields.groups, 0);
  expect_length("weight", weight, flat(inputs[0]));
  expect_length("bias", bias, inputs[0].channels);
  return inputs[0];
}

}  // namespace

constexpr LayerType layer_types::batch_norm{.record = {.tensors = batch_norm_slots, .floats = 1},
                                            .infer = infer_batch_norm,
                                            .make = make<BatchNorm>};
static_assert(layer_types::batch_norm.record.is<BatchNormFields, BatchNormTensors>());

constexpr LayerType layer_types::layer_norm{
    .record = {.settings = layer_norm_settings,
               .tensors = std::span(batch_norm_slots).last(2),
               .floats = 1},
    .infer = infer_layer_norm,
    .make = make<LayerNorm>};
static_assert(layer_types::layer_norm.record.is<LayerNormFields, WeightAndBias>());

}  // namespace tinyvox
