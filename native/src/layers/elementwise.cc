// Recurrences of each value by itself.
#include <algorithm>

#include "layers/shapes.h"
#include "layers/type.h"

namespace tinyvox {
namespace {

constexpr Setting settings[] = {{"whether it runs backwards", 0, 1}};
constexpr Slot slots[] = {{"weight", true, true}};

// c = f c + u; with a weight, f is the sigmoid of itself plus the weight times c, and u is taken
// 1 - f times.
class ElementwiseRecurrence : public Layer {
 public:
  ElementwiseRecurrence(const Node& node, const Signal& input)
      : size_(input.size()),
        reverse_(fields_of<ElementwiseFields>(node).reverse),
        weight_(tensors_of<OneWeight>(node).weight.values) {}

  Window window() const override {
    Window window;
    window.whole = reverse_;
    return window;
  }
  size_t state_size() const override { return size_; }
  size_t scratch_size() const override { return weight_.size(); }
  size_t bytes() const override { return weight_.size() * sizeof(float); }
  size_t products() const override { return size_; }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float* state,
           Work& work) const override {
    if (reverse_) std::fill_n(state, size_, 0.0f);
    for (size_t i = 0; i < frames; ++i) {
      const size_t first = (reverse_ ? frames - 1 - i : i) * size_;
      step(inputs[0] + first, inputs[1] + first, state, work);
      std::copy_n(state, size_, out + first);
    }
  }

 private:
  void step(const float* f, const float* u, float* c, Work& work) const {
    if (weight_.empty()) {
      for (size_t i = 0; i < size_; ++i) c[i] = f[i] * c[i] + u[i];
      return;
    }
    float* gate = work.scratch.data();
    for (size_t i = 0; i < size_; ++i) gate[i] = f[i] + weight_[i] * c[i];
    work.kernels.sigmoid_f32(gate, size_);
    for (size_t i = 0; i < size_; ++i) c[i] = u[i] + gate[i] * (c[i] - u[i]);
  }

  size_t size_;
  bool reverse_;
  std::vector<float> weight_;
};

Signal infer_elementwise(const Node& node, std::span<const Signal> inputs) {
  expect("number of inputs", inputs.size(), 2);
  check_rates(inputs);
  expect("size of the second input", flat(inputs[1]), flat(inputs[0]));
  expect_length("weight", tensors_of<OneWeight>(node).weight, inputs[0].channels);
  return inputs[0];
}

}  // namespace

constexpr LayerType layer_types::elementwise_recurrence{
    .since = signals_version,
    .record = {.settings = settings, .tensors = slots, .most_inputs = 2},
    .infer = infer_elementwise,
    .make = make<ElementwiseRecurrence>};
static_assert(layer_types::elementwise_recurrence.record.is<ElementwiseFields, OneWeight>());

}  // namespace tinyvox
