// Convolutions as matrix products over gathered windows.
#include <algorithm>

#include "layers.h"

namespace tinyvox {
namespace {

class Conv1d : public Layer {
 public:
  Conv1d(const Node& node, const Signal& input, Packer& packer)
      : channels_(input.channels),
        kernel_(node.ints[0]),
        stride_(node.ints[1]),
        dilation_(node.ints[2]),
        before_(node.ints[3]),
        after_(node.ints[4]),
        groups_(packer.split_rows(node.tensors[0], node.ints[5])),
        bias_(node.tensors[1].values) {}

  Window window() const override {
    return {before_, dilation_ * (kernel_ - 1) + 1, stride_, after_};
  }
  size_t scratch_size() const override {
    return max_frames * (groups_[0].columns() + groups_[0].rows());
  }
  size_t bytes() const override {
    size_t total = bias_.size() * sizeof(float);
    for (const PackedMatrix& group : groups_) total += group.bytes();
    return total;
  }
  void reserve(MatrixWork& work) const override { groups_[0].reserve(work); }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work& work) const override {
    const size_t columns = groups_[0].columns(), rows = groups_[0].rows();
    float* window = work.scratch.data();
    float* result = window + max_frames * columns;
    for (size_t group = 0; group < groups_.size(); ++group) {
      for (size_t frame = 0; frame < frames; ++frame)
        gather(inputs[0] + frame * stride_ * channels_, group, window + frame * columns);
      groups_[group].apply(window, frames, result, work.matrix);
      for (size_t frame = 0; frame < frames; ++frame)
        std::copy_n(result + frame * rows, rows, out + (frame * groups_.size() + group) * rows);
    }
    add_bias(bias_, frames, out);
  }

 private:
  // In the order of the weights: channel by channel, the kernel fastest.
  void gather(const float* frames, size_t group, float* window) const {
    const size_t size = channels_ / groups_.size();
    for (size_t channel = 0; channel < size; ++channel)
      for (size_t tap = 0; tap < kernel_; ++tap)
        *window++ = frames[tap * dilation_ * channels_ + group * size + channel];
  }

  size_t channels_, kernel_, stride_, dilation_, before_, after_;
  std::vector<PackedMatrix> groups_;
  std::vector<float> bias_;
};

class Conv2d : public Layer {
 public:
  Conv2d(const Node& node, const Signal& input, Packer& packer)
      : channels_(input.channels),
        bands_(input.bands),
        kernel_time_(node.ints[0]),
        kernel_band_(node.ints[1]),
        stride_time_(node.ints[2]),
        stride_band_(node.ints[3]),
        before_(node.ints[4]),
        after_(node.ints[5]),
        below_(node.ints[6]),
        bands_out_(node.signal.bands),
        weight_(packer.pack(node.tensors[0])),
        bias_(node.tensors[1].values) {}

  Window window() const override { return {before_, kernel_time_, stride_time_, after_}; }
  size_t scratch_size() const override { return max_frames * (weight_.columns() + weight_.rows()); }
  size_t bytes() const override { return weight_.bytes() + bias_.size() * sizeof(float); }
  void reserve(MatrixWork& work) const override { weight_.reserve(work); }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work& work) const override {
    for (size_t frame = 0; frame < frames; ++frame)
      for (size_t band = 0; band < bands_out_; band += max_frames)
        run_bands(inputs[0] + frame * stride_time_ * channels_ * bands_, band,
                  std::min(max_frames, bands_out_ - band),
                  out + frame * weight_.rows() * bands_out_, work);
  }

 private:
  // Computes bands [first, first + count) of one frame of output.
  void run_bands(const float* frames, size_t first, size_t count, float* out, Work& work) const {
    const size_t columns = weight_.columns(), rows = weight_.rows();
    float* window = work.scratch.data();
    float* result = window + max_frames * columns;
    for (size_t i = 0; i < count; ++i) gather(frames, first + i, window + i * columns);
    weight_.apply(window, count, result, work.matrix);
    for (size_t i = 0; i < count; ++i)
      for (size_t row = 0; row < rows; ++row)
        out[row * bands_out_ + first + i] =
            result[i * rows + row] + (bias_.empty() ? 0.0f : bias_[row]);
  }

  // In the order of the weights: channels, then time, then bands. Zeros beyond the first and the
  // last band.
  void gather(const float* frames, size_t band_out, float* window) const {
    for (size_t channel = 0; channel < channels_; ++channel)
      for (size_t time = 0; time < kernel_time_; ++time)
        for (size_t tap = 0; tap < kernel_band_; ++tap) {
          const size_t padded = band_out * stride_band_ + tap;
          const bool inside = padded >= below_ && padded < below_ + bands_;
          const float* bands = frames + (time * channels_ + channel) * bands_;
          *window++ = inside ? bands[padded - below_] : 0.0f;
        }
  }

  size_t channels_, bands_, kernel_time_, kernel_band_, stride_time_, stride_band_;
  size_t before_, after_, below_, bands_out_;
  PackedMatrix weight_;
  std::vector<float> bias_;
};

}  // namespace

std::unique_ptr<Layer> make_conv1d(const Node& node, const Signal& input, Packer& packer) {
  return std::make_unique<Conv1d>(node, input, packer);
}

std::unique_ptr<Layer> make_conv2d(const Node& node, const Signal& input, Packer& packer) {
  return std::make_unique<Conv2d>(node, input, packer);
}

}  // namespace tinyvox
