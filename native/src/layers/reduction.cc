// Reductions over time: the whole utterance becomes one frame.
#include <algorithm>
#include <cstring>

#include "layers/shapes.h"
#include "layers/type.h"

namespace tinyvox {
namespace {

constexpr Setting settings[] = {{"kind", 0, 7, 0, {.signals = 3}}};

// The last float of the state holds the number of frames, as the bits of an integer: floats do not
// count beyond 2^24.
uint32_t counted(float state) { return __builtin_bit_cast(uint32_t, state); }

class Reduction : public Layer {
 public:
  Reduction(ReductionKind kind, const Signal& input) : kind_(kind), size_(input.size()) {}

  Window window() const override {
    Window window;
    window.reduces = true;
    return window;
  }
  size_t state_size() const override { return (adds() ? 2 * size_ : size_) + 1; }

  void take(const float* x, size_t frames, float* state) const override {
    for (size_t frame = 0; frame < frames; ++frame) {
      float& count = state[state_size() - 1];
      take_one(x + frame * size_, counted(count) == 0, state);
      count = __builtin_bit_cast(float, counted(count) + 1);
    }
  }

  void run(std::span<const float* const>, size_t, float* out, float* state, Work&) const override {
    const auto count = static_cast<float>(counted(state[state_size() - 1]));
    const float divisor = kind_ == ReductionKind::mean ? count : 1.0f;
    for (size_t i = 0; i < size_; ++i) out[i] = state[i] / divisor;
  }

 private:
  bool adds() const { return kind_ == ReductionKind::mean || kind_ == ReductionKind::sum; }

  void take_one(const float* x, bool is_first, float* state) const {
    if (adds()) return add(x, state, state + size_);
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

// The state holds a count, as above, and for each value the mean so far and the sum of squares
// around it, two doubles. Source: Welford, "Note on a method for calculating corrected sums of
// squares and products", 1962.
class Variance : public Layer {
 public:
  Variance(const Signal& input, bool unbiased) : size_(input.size()), unbiased_(unbiased) {}

  Window window() const override {
    Window window;
    window.reduces = true;
    return window;
  }
  size_t state_size() const override { return 4 * size_ + 1; }

  void take(const float* x, size_t frames, float* state) const override {
    float& count = state[4 * size_];
    for (size_t frame = 0; frame < frames; ++frame) {
      count = __builtin_bit_cast(float, counted(count) + 1);
      for (size_t i = 0; i < size_; ++i) add(*x++, counted(count), state + 4 * i);
    }
  }

  void run(std::span<const float* const>, size_t, float* out, float* state, Work&) const override {
    const uint32_t count = counted(state[4 * size_]);
    const double divisor = std::max(1u, unbiased_ ? count - 1 : count);
    for (size_t i = 0; i < size_; ++i) {
      Moments moments;
      std::memcpy(&moments, state + 4 * i, sizeof moments);
      out[i] = static_cast<float>(moments.squares / divisor);
    }
  }

 private:
  struct Moments {
    double mean, squares;
  };
  static_assert(sizeof(Moments) == 4 * sizeof(float));

  static void add(double x, uint32_t count, float* state) {
    Moments moments;
    std::memcpy(&moments, state, sizeof moments);
    const double before = x - moments.mean;
    moments.mean += before / count;
    moments.squares += before * (x - moments.mean);
    std::memcpy(state, &moments, sizeof moments);
  }

  size_t size_;
  bool unbiased_;
};

// Which frame is the middle one shows at the end of the utterance.
class Middle : public Layer {
 public:
  explicit Middle(const Signal& input) : size_(input.size()) {}

  Window window() const override {
    Window window;
    window.whole = window.reduces = true;
    return window;
  }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work&) const override {
    std::copy_n(inputs[0] + frames / 2 * size_, size_, out);
  }

 private:
  size_t size_;
};

std::unique_ptr<Layer> make_reduction(const Node& node, std::span<const Signal> inputs, Packer&) {
  const Signal& input = inputs[0];
  const ReductionKind kind = fields_of<ReduceFields>(node).kind;
  if (kind == ReductionKind::middle) return std::make_unique<Middle>(input);
  if (kind == ReductionKind::variance || kind == ReductionKind::variance_unbiased)
    return std::make_unique<Variance>(input, kind == ReductionKind::variance_unbiased);
  return std::make_unique<Reduction>(kind, input);
}

Signal infer_reduction(const Node&, std::span<const Signal> inputs) {
  return make_signal(inputs[0].channels, inputs[0].bands, 0);
}

}  // namespace

constexpr LayerType layer_types::reduce{.since = gating_version,
                                        .record = {settings},
                                        .infer = infer_reduction,
                                        .make = make_reduction};
static_assert(layer_types::reduce.record.is<ReduceFields>());

}  // namespace tinyvox
