// Layers of several inputs: sums, products, one signal after the other, one frame for all.
#include <algorithm>
#include <functional>

#include "bytes.h"
#include "layers/shapes.h"
#include "layers/type.h"

namespace tinyvox {
namespace {

// The sum or the product of signals, value by value.
template <typename Operation>
class Combine : public Layer {
 public:
  explicit Combine(const Signal& input) : size_(input.size()) {}

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work&) const override {
    std::copy_n(inputs[0], frames * size_, out);
    for (const float* x : inputs.subspan(1))
      for (size_t i = 0; i < frames * size_; ++i) out[i] = Operation()(out[i], x[i]);
  }

 private:
  size_t size_;
};

Signal infer_combined(const Node&, std::span<const Signal> inputs) {
  check_rates(inputs);
  for (const Signal& input : inputs) {
    expect("channels of an input", input.channels, inputs[0].channels);
    expect("bands of an input", input.bands, inputs[0].bands);
  }
  return inputs[0];
}

class Concat : public Layer {
 public:
  explicit Concat(std::span<const Signal> inputs) {
    for (const Signal& input : inputs) sizes_.push_back(input.size());
  }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work&) const override {
    for (size_t frame = 0; frame < frames; ++frame)
      for (size_t i = 0; i < sizes_.size(); ++i)
        out = std::copy_n(inputs[i] + frame * sizes_[i], sizes_[i], out);
  }

 private:
  std::vector<size_t> sizes_;
};

Signal infer_concat(const Node&, std::span<const Signal> inputs) {
  check_rates(inputs);
  uint64_t size = 0;
  for (const Signal& input : inputs) size += flat(input);
  return make_signal(size, 0, inputs[0].stride);
}

std::unique_ptr<Layer> make_concat(const Node&, std::span<const Signal> inputs, Packer&) {
  return std::make_unique<Concat>(inputs);
}

// The one frame of the first input for each of the second.
class Spread : public Layer {
 public:
  explicit Spread(const Signal& one) : size_(one.size()) {}

  Window window() const override {
    Window window;
    window.whole = window.spreads = true;
    return window;
  }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work&) const override {
    for (size_t frame = 0; frame < frames; ++frame) out = std::copy_n(inputs[0], size_, out);
  }

 private:
  size_t size_;
};

Signal infer_spread(const Node&, std::span<const Signal> inputs) {
  if (inputs[0].stride || !inputs[1].stride)
    fail("takes one frame an utterance, then a signal of many");
  return make_signal(inputs[0].channels, inputs[0].bands, inputs[1].stride);
}

}  // namespace

constexpr LayerType layer_types::add{.record = {.most_inputs = max_inputs},
                                     .infer = infer_combined,
                                     .make = make<Combine<std::plus<>>>};

constexpr LayerType layer_types::multiply{.since = gating_version,
                                          .record = {.most_inputs = max_inputs},
                                          .infer = infer_combined,
                                          .make = make<Combine<std::multiplies<>>>};

constexpr LayerType layer_types::concat{
    .record = {.most_inputs = max_inputs}, .infer = infer_concat, .make = make_concat};

constexpr LayerType layer_types::spread{
    .since = signals_version, .record = {.inputs = 2}, .infer = infer_spread, .make = make<Spread>};

}  // namespace tinyvox
