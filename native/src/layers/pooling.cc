// Pooling over frames and bands.
#include <algorithm>
#include <limits>

#include "layers/shapes.h"
#include "layers/type.h"

namespace tinyvox {
namespace {

constexpr Setting settings[] = {{"kind", 0, 2},
                                {"kernel in time", 1, max_span},
                                {"kernel in bands", 1, max_span},
                                {"stride in time", 1, max_span},
                                {"stride in bands", 1, max_span},
                                {"padding before", 0, max_span},
                                {"padding after", 0, max_span},
                                {"padding below", 0, max_span},
                                {"padding above", 0, max_span}};

// What frames of padding hold that do not count. Every window has a frame that is no padding.
constexpr float absent = -std::numeric_limits<float>::infinity();

class Pool : public Layer {
 public:
  Pool(const Node& node, const Signal& input)
      : Pool(fields_of<PoolFields>(node), input, node.signal) {}

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
  Pool(const PoolFields& fields, const Signal& input, const Signal& output)
      : kind_(fields.kind),
        channels_(input.channels),
        bands_(std::max(1u, input.bands)),
        kernel_time_(fields.kernel_time),
        kernel_band_(fields.kernel_band),
        stride_time_(fields.stride_time),
        stride_band_(fields.stride_band),
        before_(fields.before),
        after_(fields.after),
        below_(fields.below),
        bands_out_(std::max(1u, output.bands)) {}

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

void check_padding(uint32_t padding, uint32_t kernel) {
  if (padding >= kernel)
    refuse({"pads ", padding, " around a kernel of ", kernel, ", expected less"});
}

Signal infer_pool(const Node& node, std::span<const Signal> inputs) {
  const Signal& input = inputs[0];
  const auto fields = fields_of<PoolFields>(node);
  check_padding(fields.before, fields.kernel_time);
  check_padding(fields.after, fields.kernel_time);
  check_padding(fields.below, fields.kernel_band);
  check_padding(fields.above, fields.kernel_band);
  const uint64_t stride = stride_of(input, fields.stride_time);
  if (!input.bands) {
    expect("kernel in bands", fields.kernel_band, 1);
    return make_signal(input.channels, 0, stride);
  }
  const uint64_t bands = uint64_t{input.bands} + fields.below + fields.above;
  return make_signal(input.channels, bands_after(bands, fields.kernel_band, fields.stride_band),
                     stride);
}

uint64_t held(const Node& node) {
  const auto fields = fields_of<PoolFields>(node);
  return uint64_t{fields.kernel_time} + fields.before + fields.after;
}

}  // namespace

constexpr LayerType layer_types::pool{.since = signals_version,
                                      .record = {settings},
                                      .infer = infer_pool,
                                      .make = make<Pool>,
                                      .held = held};
static_assert(layer_types::pool.record.is<PoolFields>());

}  // namespace tinyvox
