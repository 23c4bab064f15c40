// Layers over frames and bands that have no weights: pooling, values by their places, one frame for
// all, softmax over time.
#include <algorithm>
#include <cmath>
#include <limits>

#include "layers.h"

namespace tinyvox {
namespace {

// What frames of padding hold that do not count. Every window has a frame that is no padding.
constexpr float absent = -std::numeric_limits<float>::infinity();

class Pool : public Layer {
 public:
  Pool(const Node& node, const Signal& input)
      : kind_(static_cast<PoolKind>(node.ints[0])),
        channels_(input.channels),
        bands_(std::max(1u, input.bands)),
        kernel_time_(node.ints[1]),
        kernel_band_(node.ints[2]),
        stride_time_(node.ints[3]),
        stride_band_(node.ints[4]),
        before_(node.ints[5]),
        after_(node.ints[6]),
        below_(node.ints[7]),
        bands_out_(std::max(1u, node.signal.bands)) {}

  Window window() const override {
    Window window{before_, kernel_time_, stride_time_, after_};
    window.padding = kind_ == PoolKind::mean ? 0.0f : absent;
    return window;
  }
  size_t products() const override { return channels_ * bands_out_ * kernel_time_ * kernel_band_; }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work&) const override {
    for (size_t frame = 0; frame < frames; ++frame) {
      const float* x = inputs[0] + frame * stride_time_ * channels_ * bands_;
      for (size_t channel = 0; channel < channels_; ++channel, x += bands_)
        for (size_t band = 0; band < bands_out_; ++band) *out++ = pool(x, band * stride_band_);
    }
  }

 private:
  // `x` is a channel of the first frame; `start` counts bands from the first one of the padding.
  float pool(const float* x, size_t start) const {
    const size_t first = std::max(start, below_) - below_;
    const size_t end = std::min(std::max(start + kernel_band_, below_) - below_, bands_);
    float sum = 0, most = absent;
    size_t count = 0;
    for (size_t time = 0; time < kernel_time_; ++time, x += channels_ * bands_)
      for (size_t band = first; band < end; ++band) {
        if (x[band] == absent && kind_ != PoolKind::mean) continue;
        sum += x[band];
        most = std::max(most, x[band]);
        ++count;
      }
    if (kind_ == PoolKind::max) return most;
    if (kind_ == PoolKind::mean) count = kernel_time_ * kernel_band_;
    return sum / static_cast<float>(std::max<size_t>(1, count));
  }

  PoolKind kind_;
  size_t channels_, bands_, kernel_time_, kernel_band_, stride_time_, stride_band_;
  size_t before_, after_, below_, bands_out_;
};

// Values by their places, of all channels, or of the bands of each.
class Take : public Layer {
 public:
  Take(const Node& node, const Signal& input)
      : places_(node.ints.begin() + 1, node.ints.end()),
        outer_(node.ints[0] ? input.channels : 1),
        inner_(node.ints[0] ? 1 : std::max(1u, input.bands)),
        size_(node.ints[0] ? input.bands : input.channels) {}

  size_t bytes() const override { return places_.size() * sizeof(uint32_t); }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work&) const override {
    const float* x = inputs[0];
    for (size_t i = 0; i < frames * outer_; ++i, x += size_ * inner_)
      for (uint32_t place : places_)
        out = place ? std::copy_n(x + (place - 1) * inner_, inner_, out)
                    : std::fill_n(out, inner_, 0.0f);
  }

 private:
  std::vector<uint32_t> places_;  // 0 is a zero
  size_t outer_, inner_, size_;
};

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

}  // namespace

std::unique_ptr<Layer> make_pool(const Node& node, const Signal& input) {
  return std::make_unique<Pool>(node, input);
}

std::unique_ptr<Layer> make_take(const Node& node, const Signal& input) {
  return std::make_unique<Take>(node, input);
}

std::unique_ptr<Layer> make_spread(const Signal& one) { return std::make_unique<Spread>(one); }

std::unique_ptr<Layer> make_time_softmax(const Signal& input) {
  return std::make_unique<TimeSoftmax>(input);
}

}  // namespace tinyvox
