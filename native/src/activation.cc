// Activations: functions of each value alone.
#include <algorithm>
#include <cmath>
#include <limits>

#include "layers.h"

namespace tinyvox {
namespace {

float hardsigmoid(float x) { return std::min(std::max(x + 3.0f, 0.0f), 6.0f) / 6.0f; }

constexpr float smallest = std::numeric_limits<float>::min();  // normal

// 1 / x, where x is at least 2^-63 in magnitude.
float reciprocal(float x) {
  constexpr float least = 0x1p-63f;
  return 1.0f / (std::abs(x) >= least ? x : std::copysign(least, x));
}

float softplus(float x) { return std::max(x, 0.0f) + std::log1p(std::exp(-std::abs(x))); }

// x tanh(log(1 + e^x)), where tanh(log(1 + e)) = ((1 + e)^2 - 1) / ((1 + e)^2 + 1). From 20 on it
// is x.
float mish(float x) {
  const float e = std::exp(std::min(x, 20.0f)), n = e * (e + 2.0f);
  return x * (n / (n + 2.0f));
}

float gelu(float x) { return 0.5f * x * (1.0f + std::erf(x * 0.70710678f)); }

// Twice the argument of the tanh in the approximation of the GELU, whose outcome is x times the
// sigmoid of this. Source: Hendrycks and Gimpel, "Gaussian error linear units", 2016, section 2.
float gelu_argument(float x) { return 1.5957691f * (x + 0.044715f * x * x * x); }

class Activation : public Layer {
 public:
  Activation(const Node& node, const Signal& input)
      : kind_(static_cast<ActivationKind>(node.ints[0])),
        limit_(kind_ == ActivationKind::clipped_relu ? node.floats[0] : INFINITY),
        limits_(node.tensors[0].values),
        slopes_(node.tensors[1].values),
        size_(input.size()),
        bands_(std::max(1u, input.bands)) {
    if (slopes_.size() == 1) slopes_.resize(input.channels, slopes_[0]);
  }

  size_t bytes() const override { return (limits_.size() + slopes_.size()) * sizeof(float); }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work& work) const override {
    const float* x = inputs[0];
    const size_t values = frames * size_;
    switch (kind_) {
      case ActivationKind::relu:
      case ActivationKind::clipped_relu:
        if (!limits_.empty()) return each(limits_, x, frames, out, clip);
        return map(x, values, out, [limit = limit_](float v) { return clip(v, limit); });
      case ActivationKind::leaky_relu:
        return each(slopes_, x, frames, out,
                    [](float v, float slope) { return v > 0 ? v : v * slope; });
      case ActivationKind::tanh:
        std::copy_n(x, values, out);
        return work.kernels.tanh_f32(out, values);
      case ActivationKind::sigmoid:
        std::copy_n(x, values, out);
        return work.kernels.sigmoid_f32(out, values);
      case ActivationKind::silu:
        return gate(x, values, out, work.kernels, [](float v) { return v; });
      case ActivationKind::gelu_tanh:
        return gate(x, values, out, work.kernels, gelu_argument);
      case ActivationKind::elu:
        return map(x, values, out, [](float v) { return v > 0 ? v : std::expm1(v); });
      case ActivationKind::gelu:
        return map(x, values, out, gelu);
      case ActivationKind::hardsigmoid:
        return map(x, values, out, hardsigmoid);
      case ActivationKind::hardswish:
        return map(x, values, out, [](float v) { return v * hardsigmoid(v); });
      case ActivationKind::softplus:
        return map(x, values, out, softplus);
      case ActivationKind::mish:
        return map(x, values, out, mish);
      case ActivationKind::softsign:
        return map(x, values, out, [](float v) { return v / (1.0f + std::abs(v)); });
      case ActivationKind::exp:
        return map(x, values, out, [](float v) { return std::exp(std::min(v, 88.0f)); });
      case ActivationKind::sqrt:
        return map(x, values, out, [](float v) { return std::sqrt(std::max(v, 0.0f)); });
      case ActivationKind::log:
        return map(x, values, out, [](float v) { return std::log(std::max(v, smallest)); });
      case ActivationKind::abs:
        return map(x, values, out, [](float v) { return std::abs(v); });
      case ActivationKind::reciprocal:
        return map(x, values, out, reciprocal);
    }
  }

 private:
  static float clip(float x, float limit) { return std::min(std::max(x, 0.0f), limit); }

  template <typename Function>
  static void map(const float* x, size_t values, float* out, Function function) {
    for (size_t i = 0; i < values; ++i) out[i] = function(x[i]);
  }

  // A function of the value and of the number of its channel.
  template <typename Function>
  void each(const std::vector<float>& numbers, const float* x, size_t frames, float* out,
            Function function) const {
    for (size_t frame = 0; frame < frames; ++frame)
      for (float number : numbers)
        for (size_t band = 0; band < bands_; ++band) *out++ = function(*x++, number);
  }

  // Each value times the sigmoid of its function.
  template <typename Function>
  static void gate(const float* x, size_t values, float* out, const Kernels& kernels,
                   Function function) {
    map(x, values, out, function);
    kernels.sigmoid_f32(out, values);
    for (size_t i = 0; i < values; ++i) out[i] *= x[i];
  }

  ActivationKind kind_;
  float limit_;
  std::vector<float> limits_, slopes_;  // one for each channel, or empty
  size_t size_, bands_;
};

}  // namespace

std::optional<Limits> limits_of(const Node& node) {
  if (node.kind != LayerKind::activation || !node.tensors[0].values.empty()) return std::nullopt;
  const auto kind = static_cast<ActivationKind>(node.ints[0]);
  if (kind == ActivationKind::relu) return Limits{0, INFINITY};
  if (kind == ActivationKind::clipped_relu) return Limits{0, node.floats[0]};
  return std::nullopt;
}

std::unique_ptr<Layer> make_activation(const Node& node, const Signal& input) {
  return std::make_unique<Activation>(node, input);
}

}  // namespace tinyvox
