// Convolutions: as matrix products over gathered windows, and of small groups directly.
#include <algorithm>

#include "layers.h"

namespace tinyvox {
namespace {

// The frames that a convolution in time reads.
class Convolution : public Layer {
 public:
  Convolution(const Node& node, const Signal& input)
      : channels_(input.channels),
        kernel_(node.ints[0]),
        stride_(node.ints[1]),
        dilation_(node.ints[2]),
        before_(node.ints[3]),
        after_(node.ints[4]) {}

  Window window() const override {
    return {before_, dilation_ * (kernel_ - 1) + 1, stride_, after_};
  }

 protected:
  size_t channels_, kernel_, stride_, dilation_, before_, after_;
};

class Conv1d : public Convolution {
 public:
  Conv1d(const Node& node, const Signal& input, Packer& packer)
      : Convolution(node, input),
        groups_(packer.split_rows(node.tensors[0], node.ints[5])),
        bias_(node.tensors[1].values) {}

  size_t scratch_size() const override {
    return max_frames * (groups_[0].columns() + groups_[0].rows());
  }
  size_t bytes() const override {
    size_t total = bias_.size() * sizeof(float);
    for (const PackedMatrix& group : groups_) total += group.bytes();
    return total;
  }
  size_t products() const override { return groups_.size() * groups_[0].products(); }
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

  std::vector<PackedMatrix> groups_;
  std::vector<float> bias_;
};

// A convolution of many groups with few weights each, such as a depthwise one. A kernel would
// multiply a block of rows for each group, most of it padding, so all groups are computed side by
// side, weight by weight. The order of the sums is the same on every instruction set.
class GroupedConv1d : public Convolution {
 public:
  GroupedConv1d(const Node& node, const Signal& input, Packer& packer)
      : Convolution(node, input),
        groups_(node.ints[5]),
        rows_(node.tensors[0].rows / groups_),
        columns_(leftmost(node.tensors[0]).columns),
        rest_(packer.pack_after_first(node.tensors[0])),
        bias_(node.tensors[1].values) {
    if (packer.memory() == Memory::taken) pack(leftmost(node.tensors[0]));
  }

  size_t scratch_size() const override {
    const size_t inner = rest_ ? max_frames * rest_.columns() + groups_ * columns_ : 0;
    return groups_ * (rows_ + 1) + inner;
  }
  size_t bytes() const override {
    return rest_.bytes() + (groups_ * rows_ * columns_ + bias_.size()) * sizeof(float);
  }
  size_t products() const override {
    return groups_ * (rows_ * columns_ + (rest_ ? rest_.products() : 0));
  }
  void reserve(MatrixWork& work) const override {
    if (rest_) rest_.reserve(work);
  }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work& work) const override {
    for (size_t frame = 0; frame < frames; ++frame)
      run_frame(inputs[0] + frame * stride_ * channels_, out + frame * groups_ * rows_, work);
    add_bias(bias_, frames, out);
  }

 private:
  // [columns, rows, groups] from [groups * rows, columns].
  void pack(const Tensor& weight) {
    weights_.resize(columns_ * rows_ * groups_);
    std::vector<float> row(columns_);
    for (size_t i = 0; i < groups_ * rows_; ++i) {
      weight.weights_of(static_cast<uint32_t>(i), row.data());
      for (size_t column = 0; column < columns_; ++column)
        weights_[(column * rows_ + i % rows_) * groups_ + i / rows_] = row[column];
    }
  }

  void run_frame(const float* frames, float* out, Work& work) const {
    float* sums = work.scratch.data();  // [rows, groups]
    float* plane = sums + rows_ * groups_;
    const float* inner = rest_ ? multiply_rest(frames, plane + groups_, work) : nullptr;
    std::fill_n(sums, rows_ * groups_, 0.0f);
    for (size_t column = 0; column < columns_; ++column) {
      const float* x = inner ? spread(inner + column, columns_, plane)
                             : spread(input_at(frames, column), size(), plane);
      for (size_t row = 0; row < rows_; ++row)
        add_products(weights_.data() + (column * rows_ + row) * groups_, x, sums + row * groups_);
    }
    for (size_t group = 0; group < groups_; ++group)
      for (size_t row = 0; row < rows_; ++row) *out++ = sums[row * groups_ + group];
  }

  size_t size() const { return channels_ / groups_; }

  // What a column of the first group's window holds: channel by channel, the kernel fastest.
  const float* input_at(const float* frames, size_t column) const {
    return frames + column % kernel_ * dilation_ * channels_ + column / kernel_;
  }

  // One value of each group, side by side.
  const float* spread(const float* values, size_t step, float* plane) const {
    if (step == 1) return values;
    for (size_t group = 0; group < groups_; ++group) plane[group] = values[group * step];
    return plane;
  }

  void add_products(const float* __restrict w, const float* __restrict x,
                    float* __restrict sums) const {
    for (size_t group = 0; group < groups_; ++group) sums[group] += w[group] * x[group];
  }

  // The products of the factors after the first with the window of each group, [groups, columns].
  const float* multiply_rest(const float* frames, float* results, Work& work) const {
    float* windows = results + groups_ * columns_;
    for (size_t first = 0; first < groups_; first += max_frames) {
      const size_t some = std::min(max_frames, groups_ - first);
      for (size_t i = 0; i < some; ++i)
        for (size_t column = 0; column < rest_.columns(); ++column)
          windows[i * rest_.columns() + column] = input_at(frames, column)[(first + i) * size()];
      rest_.apply(windows, some, results + first * columns_, work.matrix);
    }
    return results;
  }

  size_t groups_, rows_, columns_;  // of groups; of a group
  PackedMatrix rest_;
  std::vector<float> weights_, bias_;
};

// Groups whose weights would fill less than an eighth of what a kernel multiplies for each: 64 rows
// of 32 columns.
bool has_small_groups(const Node& node) {
  const Tensor& last = leftmost(node.tensors[0]);
  const size_t groups = node.ints[5], rows = last.rows / groups;
  return groups >= 8 && rows * std::min<size_t>(last.columns, 32) <= 64 * 32 / 8;
}

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
        dilation_time_(node.ints[8]),
        dilation_band_(node.ints[9]),
        bands_out_(node.signal.bands),
        groups_(packer.split_rows(node.tensors[0], node.ints[10])),
        bias_(node.tensors[1].values) {}

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

}  // namespace

std::unique_ptr<Layer> make_conv1d(const Node& node, const Signal& input, Packer& packer) {
  if (has_small_groups(node)) return std::make_unique<GroupedConv1d>(node, input, packer);
  return std::make_unique<Conv1d>(node, input, packer);
}

std::unique_ptr<Layer> make_conv2d(const Node& node, const Signal& input, Packer& packer) {
  return std::make_unique<Conv2d>(node, input, packer);
}

}  // namespace tinyvox
