// Convolutions in time and bands, as matrix products over gathered windows.
#include <algorithm>

#include "layers/shapes.h"
#include "layers/type.h"

namespace tinyvox {
namespace {

constexpr Setting settings[] = {{"kernel in time", 1, max_span},
                                {"kernel in bands", 1, max_span},
                                {"stride in time", 1, max_span},
                                {"stride in bands", 1, max_span},
                                {"padding before", 0, max_span},
                                {"padding after", 0, max_span},
                                {"padding below", 0, max_span},
                                {"padding above", 0, max_span},
                                {"dilation in time", 1, max_span, varying_version},
                                {"dilation in bands", 1, max_span, varying_version},
                                {"groups", 1, max_dimension, varying_version}};

class Conv2d : public Layer {
 public:
  Conv2d(const Node& node, const Signal& input, Packer& packer)
      : Conv2d(fields_of<Conv2dFields>(node), tensors_of<WeightAndBias>(node), input, node.signal,
               packer) {}

  Window window() const override {
    return {before_, dilation_time_ * (kernel_time_ - 1) + 1, stride_time_, after_};
  }
  size_t scratch_size() const override {
    return max_frames * (groups_[0].columns() + groups_[0].rows());
  }
  size_t bytes() const override {
    size_t total = bias_.size() * sizeof(float);
    for (const PackedMatrix& group : groups_) total += group.bytes();
    return total;
  }
  size_t products() const override { return bands_out_ * groups_.size() * groups_[0].products(); }
  void reserve(MatrixWork& work) const override { groups_[0].reserve(work); }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work& work) const override {
    for (size_t frame = 0; frame < frames; ++frame)
      for (size_t group = 0; group < groups_.size(); ++group)
        for (size_t band = 0; band < bands_out_; band += max_frames)
          run_bands(inputs[0] + frame * stride_time_ * channels_ * bands_, group, band,
                    std::min(max_frames, bands_out_ - band),
                    out + frame * groups_.size() * groups_[0].rows() * bands_out_, work);
  }

 private:
  Conv2d(const Conv2dFields& fields, const WeightAndBias& tensors, const Signal& input,
         const Signal& output, Packer& packer)
      : channels_(input.channels),
        bands_(input.bands),
        kernel_time_(fields.kernel_time),
        kernel_band_(fields.kernel_band),
        stride_time_(fields.stride_time),
        stride_band_(fields.stride_band),
        before_(fields.before),
        after_(fields.after),
        below_(fields.below),
        dilation_time_(fields.dilation_time),
        dilation_band_(fields.dilation_band),
        bands_out_(output.bands),
        groups_(packer.split_rows(tensors.weight, fields.groups)),
        bias_(tensors.bias.values) {}

  // Computes bands [first, first + count) of one group of channels of one frame of output.
  void run_bands(const float* frames, size_t group, size_t first, size_t count, float* out,
                 Work& work) const {
    const size_t columns = groups_[0].columns(), rows = groups_[0].rows();
    float* window = work.scratch.data();
    float* result = window + max_frames * columns;
    for (size_t i = 0; i < count; ++i) gather(frames, group, first + i, window + i * columns);
    groups_[group].apply(window, count, result, work.matrix);
    for (size_t i = 0; i < count; ++i)
      for (size_t row = 0; row < rows; ++row) {
        const size_t channel = group * rows + row;
        out[channel * bands_out_ + first + i] =
            result[i * rows + row] + (bias_.empty() ? 0.0f : bias_[channel]);
      }
  }

  // In the order of the weights: channels, then time, then bands. Zeros beyond the first and the
  // last band.
  void gather(const float* frames, size_t group, size_t band_out, float* window) const {
    const size_t size = channels_ / groups_.size();
    for (size_t channel = group * size; channel < (group + 1) * size; ++channel)
      for (size_t time = 0; time < kernel_time_; ++time)
        for (size_t tap = 0; tap < kernel_band_; ++tap) {
          const size_t padded = band_out * stride_band_ + tap * dilation_band_;
          const bool inside = padded >= below_ && padded < below_ + bands_;
          const float* bands = frames + (time * dilation_time_ * channels_ + channel) * bands_;
          *window++ = inside ? bands[padded - below_] : 0.0f;
        }
  }

  size_t channels_, bands_, kernel_time_, kernel_band_, stride_time_, stride_band_;
  size_t before_, after_, below_, dilation_time_, dilation_band_, bands_out_;
  std::vector<PackedMatrix> groups_;
  std::vector<float> bias_;
};

Signal infer_conv2d(const Node& node, std::span<const Signal> inputs) {
  const Signal& input = inputs[0];
  const auto fields = fields_of<Conv2dFields>(node);
  const auto [weight, bias] = tensors_of<WeightAndBias>(node);
  if (!input.bands) refuse({"takes frames of channels x bands, found ", input.channels, " values"});
  const uint64_t kernel_area = static_cast<uint64_t>(fields.kernel_time) * fields.kernel_band;
  const uint64_t groups = fields.groups;
  expect("weight columns", weight.columns * groups, input.channels * kernel_area);
  expect("output channels modulo groups", weight.rows % groups, 0);
  expect_length("bias", bias, weight.rows);
  const uint64_t bands = static_cast<uint64_t>(input.bands) + fields.below + fields.above;
  const uint64_t reach = reach_of(fields.kernel_band, fields.dilation_band);
  return make_signal(weight.rows, bands_after(bands, reach, fields.stride_band),
                     stride_of(input, fields.stride_time));
}

uint64_t held(const Node& node) {
  const auto fields = fields_of<Conv2dFields>(node);
  return reach_of(fields.kernel_time, fields.dilation_time) + fields.before + fields.after;
}

}  // namespace

constexpr LayerType layer_types::conv2d{.record = {settings, weight_and_bias},
                                        .infer = infer_conv2d,
                                        .make = make<Conv2d>,
                                        .held = held};
static_assert(layer_types::conv2d.record.is<Conv2dFields, WeightAndBias>());

}  // namespace tinyvox
