#include "layers.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace tinyvox {
namespace {

class Linear : public Layer {
 public:
  Linear(const Node& node, Packer& packer, const Limits& limits)
      : weight_(packer.pack(node.tensors[0])), bias_(node.tensors[1].values), limits_(limits) {
    if (limits.least != -INFINITY) bias_.resize(weight_.rows());  // an end needs one
  }

  size_t bytes() const override { return weight_.bytes() + bias_.size() * sizeof(float); }
  size_t products() const override { return weight_.products(); }
  void reserve(MatrixWork& work) const override { weight_.reserve(work); }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work& work) const override {
    weight_.apply(inputs[0], frames, out, work.matrix,
                  {bias_.empty() ? nullptr : bias_.data(), limits_.least, limits_.most});
  }

 private:
  PackedMatrix weight_;
  std::vector<float> bias_;
  Limits limits_;
};

// y = x * factor + offset, with one factor and one offset for each channel.
class BatchNorm : public Layer {
 public:
  BatchNorm(const Node& node, const Signal& input) : bands_(std::max(1u, input.bands)) {
    const auto& mean = node.tensors[0].values;
    for (size_t i = 0; i < mean.size(); ++i) {
      const float deviation = std::sqrt(node.tensors[1].values[i] + node.floats[0]);
      factor_.push_back(node.tensors[2].values[i] / deviation);
      offset_.push_back(node.tensors[3].values[i] - mean[i] * factor_.back());
    }
  }

  size_t bytes() const override { return 2 * factor_.size() * sizeof(float); }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work&) const override {
    const float* x = inputs[0];
    for (size_t frame = 0; frame < frames; ++frame)
      for (size_t channel = 0; channel < factor_.size(); ++channel)
        for (size_t band = 0; band < bands_; ++band)
          *out++ = *x++ * factor_[channel] + offset_[channel];
  }

 private:
  size_t bands_;
  std::vector<float> factor_, offset_;
};

// Each group of values scaled to mean 0 and variance 1, or to mean square 1 alone.
class LayerNorm : public Layer {
 public:
  explicit LayerNorm(const Node& node)
      : centers_(static_cast<NormKind>(node.ints[0]) == NormKind::layer),
        weight_(node.tensors[0].values),
        bias_(node.tensors[1].values),
        count_(weight_.size() / node.ints[1]),
        eps_(node.floats[0]) {}

  size_t bytes() const override { return 2 * weight_.size() * sizeof(float); }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work&) const override {
    const size_t size = weight_.size();
    for (size_t frame = 0; frame < frames; ++frame)
      for (size_t start = 0; start < size; start += count_)
        normalize(inputs[0] + frame * size + start, out + frame * size + start, start);
  }

 private:
  void normalize(const float* x, float* y, size_t start) const {
    const auto count = static_cast<double>(count_);
    double sum = 0, squares = 0;
    for (size_t i = 0; i < count_; ++i) sum += x[i];
    const double mean = centers_ ? sum / count : 0.0;
    for (size_t i = 0; i < count_; ++i) squares += (x[i] - mean) * (x[i] - mean);
    const double inverse = 1.0 / std::sqrt(squares / count + eps_);
    for (size_t i = 0; i < count_; ++i)
      y[i] = static_cast<float>((x[i] - mean) * inverse) * weight_[start + i] + bias_[start + i];
  }

  bool centers_;
  std::vector<float> weight_, bias_;
  size_t count_;  // values of a group
  float eps_;
};

// Puts the frames of each window into one frame: context windows, stacking, subsampling. With a
// window of one frame it also serves changes of shape, which move no values, and frames apart.
class Gather : public Layer {
 public:
  Gather(const Signal& input, Window window) : size_(input.size()), window_(window) {}

  Window window() const override { return window_; }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work&) const override {
    const size_t taken = window_.reach * size_;
    for (size_t frame = 0; frame < frames; ++frame)
      std::copy_n(inputs[0] + frame * window_.stride * size_, taken, out + frame * taken);
  }

 private:
  size_t size_;
  Window window_;
};

// Some values of each frame.
class Slice : public Layer {
 public:
  Slice(const Node& node, const Signal& input)
      : size_(input.size()), start_(node.ints[0]), count_(node.ints[1] - node.ints[0]) {}

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work&) const override {
    for (size_t frame = 0; frame < frames; ++frame)
      std::copy_n(inputs[0] + frame * size_ + start_, count_, out + frame * count_);
  }

 private:
  size_t size_, start_, count_;
};

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

class LogSoftmax : public Layer {
 public:
  explicit LogSoftmax(const Signal& input) : size_(input.size()) {}

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work& work) const override {
    std::copy_n(inputs[0], frames * size_, out);
    for (size_t frame = 0; frame < frames; ++frame)
      work.kernels.log_softmax_f32(out + frame * size_, size_);
  }

 private:
  size_t size_;
};

class Softmax : public Layer {
 public:
  explicit Softmax(const Signal& input) : size_(input.size()) {}

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work&) const override {
    for (size_t frame = 0; frame < frames; ++frame)
      normalize(inputs[0] + frame * size_, out + frame * size_);
  }

 private:
  void normalize(const float* x, float* y) const {
    const float most = *std::max_element(x, x + size_);
    double sum = 0;
    for (size_t i = 0; i < size_; ++i) sum += y[i] = std::exp(x[i] - most);
    for (size_t i = 0; i < size_; ++i) y[i] = static_cast<float>(y[i] / sum);
  }

  size_t size_;
};

}  // namespace

void add_bias(const std::vector<float>& bias, size_t frames, float* y) {
  for (size_t frame = 0; frame < frames; ++frame)
    for (size_t i = 0; i < bias.size(); ++i) y[frame * bias.size() + i] += bias[i];
}

std::unique_ptr<Layer> make_layer(const Node& node, std::span<const Signal> inputs, Packer& packer,
                                  const Limits& limits) {
  const Signal& input = inputs[0];
  const auto& ints = node.ints;
  switch (node.kind) {
    case LayerKind::linear:
      return std::make_unique<Linear>(node, packer, limits);
    case LayerKind::recurrent:
      return make_recurrent(node, input, packer);
    case LayerKind::conv1d:
      return make_conv1d(node, input, packer);
    case LayerKind::conv2d:
      return make_conv2d(node, input, packer);
    case LayerKind::batch_norm:
      return std::make_unique<BatchNorm>(node, input);
    case LayerKind::layer_norm:
      return std::make_unique<LayerNorm>(node);
    case LayerKind::activation:
      return make_activation(node, input);
    case LayerKind::context_window:
      return std::make_unique<Gather>(input, Window{ints[0], 1 + ints[0] + ints[1], 1, ints[1]});
    case LayerKind::frame_stacking:
      return std::make_unique<Gather>(input, Window{0, ints[0], ints[1]});
    case LayerKind::subsample:
      return std::make_unique<Gather>(input, Window{0, 1, ints[0]});
    case LayerKind::unflatten:
    case LayerKind::flatten:
      return std::make_unique<Gather>(input, Window{});
    case LayerKind::slice:
      return std::make_unique<Slice>(node, input);
    case LayerKind::add:
      return std::make_unique<Combine<std::plus<>>>(input);
    case LayerKind::multiply:
      return std::make_unique<Combine<std::multiplies<>>>(input);
    case LayerKind::concat:
      return std::make_unique<Concat>(inputs);
    case LayerKind::log_softmax:
      return std::make_unique<LogSoftmax>(input);
    case LayerKind::softmax:
      if (static_cast<SoftmaxAxis>(ints[0]) == SoftmaxAxis::time) return make_time_softmax(input);
      return std::make_unique<Softmax>(input);
    case LayerKind::reduce:
      return make_reduction(node, input);
    case LayerKind::pool:
      return make_pool(node, input);
    case LayerKind::take:
      return make_take(node, input);
    case LayerKind::frame_unstacking: {
      Window apart;
      apart.makes = ints[0];
      return std::make_unique<Gather>(input, apart);
    }
    case LayerKind::spread:
      return make_spread(input);
    case LayerKind::embedding:
      return make_embedding(node, packer);
    case LayerKind::elementwise_recurrence:
      return make_elementwise_recurrence(node, input);
  }
  throw FormatError("layer '" + node.name + "': kind of layer is unknown");
}

}  // namespace tinyvox
