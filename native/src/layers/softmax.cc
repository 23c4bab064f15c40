// Softmax over the values of a frame, or over time, and its logarithm.
#include <algorithm>
#include <cmath>

#include "bytes.h"
#include "layers/shapes.h"
#include "layers/type.h"

namespace tinyvox {
namespace {

class LogSoftmax : public Layer {
 public:
  explicit LogSoftmax(const Signal& input) : size_(input.size()) {}

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work& work) const override {
    std::copy_n(inputs[0], frames * size_, out);
    for (size_t frame = 0; frame < frames; ++frame)
      work.kernels.log_softmax_f32(out + frame * size_, size_);
  }

 private:
  size_t size_;
};

class Softmax : public Layer {
 public:
  explicit Softmax(const Signal& input) : size_(input.size()) {}

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work&) const override {
    for (size_t frame = 0; frame < frames; ++frame)
      normalize(inputs[0] + frame * size_, out + frame * size_);
  }

 private:
  void normalize(const float* x, float* y) const {
    const float most = *std::max_element(x, x + size_);
    double sum = 0;
    for (size_t i = 0; i < size_; ++i) sum += y[i] = std::exp(x[i] - most);
    for (size_t i = 0; i < size_; ++i) y[i] = static_cast<float>(y[i] / sum);
  }

  size_t size_;
};

class TimeSoftmax : public Layer {
 public:
  explicit TimeSoftmax(const Signal& input) : size_(input.size()) {}

  Window window() const override {
    Window window;
    window.whole = true;
    return window;
  }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work&) const override {
    for (size_t i = 0; i < size_; ++i) normalize(inputs[0] + i, frames, out + i);
  }

 private:
  void normalize(const float* x, size_t frames, float* y) const {
    float most = x[0];
    double sum = 0;
    for (size_t i = 0; i < frames; ++i) most = std::max(most, x[i * size_]);
    for (size_t i = 0; i < frames; ++i) sum += y[i * size_] = std::exp(x[i * size_] - most);
    for (size_t i = 0; i < frames; ++i) y[i * size_] = static_cast<float>(y[i * size_] / sum);
  }

  size_t size_;
};

constexpr Setting settings[] = {{"over", 0, 1, signals_version}};

Signal infer_softmax(const Node& node, std::span<const Signal> inputs) {
  if (fields_of<SoftmaxFields>(node).over == SoftmaxAxis::time && !inputs[0].stride)
    fail("runs over time, found one frame an utterance");
  return infer_flat(node, inputs);
}

std::unique_ptr<Layer> make_softmax(const Node& node, std::span<const Signal> inputs, Packer&) {
  if (fields_of<SoftmaxFields>(node).over == SoftmaxAxis::time)
    return std::make_unique<TimeSoftmax>(inputs[0]);
  return std::make_unique<Softmax>(inputs[0]);
}

}  // namespace

constexpr LayerType layer_types::log_softmax{.infer = infer_flat, .make = make<LogSoftmax>};

constexpr LayerType layer_types::softmax{
    .since = gating_version, .record = {settings}, .infer = infer_softmax, .make = make_softmax};
static_assert(layer_types::softmax.record.is<SoftmaxFields>());

}  // namespace tinyvox
