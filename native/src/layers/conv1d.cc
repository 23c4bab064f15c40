// Convolutions in time: as matrix products over gathered windows, and of small groups directly.
#include <algorithm>

#include "layers/shapes.h"
#include "layers/type.h"

namespace tinyvox {
namespace {

constexpr Setting settings[] = {{"kernel", 1, max_span},        {"stride", 1, max_span},
                                {"dilation", 1, max_span},      {"padding before", 0, max_span},
                                {"padding after", 0, max_span}, {"groups", 1, max_dimension}};

// The frames that a convolution in time reads.
class Convolution : public Layer {
 public:
  Convolution(const Conv1dFields& fields, const Signal& input)
      : channels_(input.channels),
        kernel_(fields.kernel),
        stride_(fields.stride),
        dilation_(fields.dilation),
        before_(fields.before),
        after_(fields.after) {}

  Window window() const override {
    return {before_, dilation_ * (kernel_ - 1) + 1, stride_, after_};
  }

 protected:
  size_t channels_, kernel_, stride_, dilation_, before_, after_;
};

class Conv1d : public Convolution {
 public:
  Conv1d(const Conv1dFields& fields, const WeightAndBias& tensors, const Signal& input,
         Packer& packer)
      : Convolution(fields, input),
        groups_(packer.split_rows(tensors.weight, fields.groups)),
        bias_(tensors.bias.values) {}

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
  GroupedConv1d(const Conv1dFields& fields, const WeightAndBias& tensors, const Signal& input,
                Packer& packer)
      : Convolution(fields, input),
        groups_(fields.groups),
        rows_(tensors.weight.rows / groups_),
        columns_(leftmost(tensors.weight).columns),
        rest_(packer.pack_after_first(tensors.weight)),
        bias_(tensors.bias.values) {
    if (packer.memory() == Memory::taken) pack(leftmost(tensors.weight));
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
bool has_small_groups(const Tensor& weight, size_t groups) {
  const Tensor& last = leftmost(weight);
  const size_t rows = last.rows / groups;
  return groups >= 8 && rows * std::min<size_t>(last.columns, 32) <= 64 * 32 / 8;
}

std::unique_ptr<Layer> make_conv1d(const Node& node, std::span<const Signal> inputs,
                                   Packer& packer) {
  const auto fields = fields_of<Conv1dFields>(node);
  const auto tensors = tensors_of<WeightAndBias>(node);
  if (has_small_groups(tensors.weight, fields.groups))
    return std::make_unique<GroupedConv1d>(fields, tensors, inputs[0], packer);
  return std::make_unique<Conv1d>(fields, tensors, inputs[0], packer);
}

Signal infer_conv1d(const Node& node, std::span<const Signal> inputs) {
  const auto fields = fields_of<Conv1dFields>(node);
  const auto [weight, bias] = tensors_of<WeightAndBias>(node);
  const uint64_t channels = static_cast<uint64_t>(weight.columns / fields.kernel) * fields.groups;
  expect("weight columns modulo kernel", weight.columns % fields.kernel, 0);
  expect("input channels", flat(inputs[0]), channels);
  expect("output channels modulo groups", weight.rows % fields.groups, 0);
  expect_length("bias", bias, weight.rows);
  return make_signal(weight.rows, 0, stride_of(inputs[0], fields.stride));
}

uint64_t held(const Node& node) {
  const auto fields = fields_of<Conv1dFields>(node);
  return reach_of(fields.kernel, fields.dilation) + fields.before + fields.after;
}

}  // namespace

constexpr LayerType layer_types::conv1d{.record = {settings, weight_and_bias},
                                        .infer = infer_conv1d,
                                        .make = make_conv1d,
                                        .held = held};
static_assert(layer_types::conv1d.record.is<Conv1dFields, WeightAndBias>());

}  // namespace tinyvox
