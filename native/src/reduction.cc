// Reductions over time: the whole utterance becomes one frame.
#include <algorithm>
#include <bit>

#include "layers.h"

namespace tinyvox {
namespace {

// The last float of the state holds the number of frames, as the bits of an integer: floats do not
// count beyond 2^24.
uint32_t counted(float state) { return std::bit_cast<uint32_t>(state); }

class Reduction : public Layer {
 public:
  Reduction(const Node& node, const Signal& input)
      : kind_(static_cast<ReductionKind>(node.ints[0])), size_(input.size()) {}

  Window window() const override {
    Window window;
    window.reduces = true;
    return window;
  }
  size_t state_size() const override {
    return (kind_ == ReductionKind::mean ? 2 * size_ : size_) + 1;
  }

  void take(const float* x, size_t frames, float* state) const override {
    for (size_t frame = 0; frame < frames; ++frame) {
      float& count = state[state_size() - 1];
      take_one(x + frame * size_, counted(count) == 0, state);
      count = std::bit_cast<float>(counted(count) + 1);
    }
  }

  void run(std::span<const float* const>, size_t, float* out, float* state, Work&) const override {
    const auto count = static_cast<float>(counted(state[state_size() - 1]));
    const float divisor = kind_ == ReductionKind::mean ? count : 1.0f;
    for (size_t i = 0; i < size_; ++i) out[i] = state[i] / divisor;
  }

 private:
  void take_one(const float* x, bool is_first, float* state) const {
    if (kind_ == ReductionKind::mean) return add(x, state, state + size_);
    if (is_first || kind_ == ReductionKind::last) std::copy_n(x, size_, state);
    if (kind_ == ReductionKind::max)
      for (size_t i = 0; i < size_; ++i) state[i] = std::max(state[i], x[i]);
  }

  // `lost` is what the sum has lost by rounding, so that hours of frames lose nothing. Source:
  // Kahan, "Further remarks on reducing truncation errors", 1965.
  void add(const float* x, float* sum, float* lost) const {
    for (size_t i = 0; i < size_; ++i) {
      const float value = x[i] - lost[i], total = sum[i] + value;
      lost[i] = (total - sum[i]) - value;
      sum[i] = total;
    }
  }

  ReductionKind kind_;
  size_t size_;
};

}  // namespace

std::unique_ptr<Layer> make_reduction(const Node& node, const Signal& input) {
  return std::make_unique<Reduction>(node, input);
}

}  // namespace tinyvox
