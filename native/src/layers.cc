#include "layers.h"

#include <algorithm>
#include <cmath>

namespace tinyvox {
namespace {

class Linear : public Layer {
 public:
  Linear(const Node& node, Packer& packer)
      : weight_(packer.pack(node.tensors[0])), bias_(node.tensors[1].values) {}

  size_t bytes() const override { return weight_.bytes() + bias_.size() * sizeof(float); }
  size_t products() const override { return weight_.products(); }
  void reserve(MatrixWork& work) const override { weight_.reserve(work); }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work& work) const override {
    weight_.apply(inputs[0], frames, out, work.matrix);
    add_bias(bias_, frames, out);
  }

 private:
  PackedMatrix weight_;
  std::vector<float> bias_;
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

class LayerNorm : public Layer {
 public:
  explicit LayerNorm(const Node& node)
      : weight_(node.tensors[0].values), bias_(node.tensors[1].values), eps_(node.floats[0]) {}

  size_t bytes() const override { return 2 * weight_.size() * sizeof(float); }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work&) const override {
    const size_t size = weight_.size();
    for (size_t frame = 0; frame < frames; ++frame)
      normalize(inputs[0] + frame * size, out + frame * size);
  }

 private:
  void normalize(const float* x, float* y) const {
    const auto size = static_cast<double>(weight_.size());
    double sum = 0, squares = 0;
    for (size_t i = 0; i < weight_.size(); ++i) sum += x[i];
    const double mean = sum / size;
    for (size_t i = 0; i < weight_.size(); ++i) squares += (x[i] - mean) * (x[i] - mean);
    const double inverse = 1.0 / std::sqrt(squares / size + eps_);
    for (size_t i = 0; i < weight_.size(); ++i)
      y[i] = static_cast<float>((x[i] - mean) * inverse) * weight_[i] + bias_[i];
  }

  std::vector<float> weight_, bias_;
  float eps_;
};

class Activation : public Layer {
 public:
  Activation(const Node& node, const Signal& input)
      : kind_(static_cast<ActivationKind>(node.ints[0])),
        limit_(kind_ == ActivationKind::clipped_relu ? node.floats[0] : INFINITY),
        limits_(node.tensors[0].values),
        size_(input.size()),
        bands_(std::max(1u, input.bands)) {}

  size_t bytes() const override { return limits_.size() * sizeof(float); }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work& work) const override {
    if (!limits_.empty()) return clip_each(inputs[0], frames, out);
    const size_t values = frames * size_;
    if (kind_ == ActivationKind::relu || kind_ == ActivationKind::clipped_relu) {
      for (size_t i = 0; i < values; ++i) out[i] = std::min(std::max(inputs[0][i], 0.0f), limit_);
      return;
    }
    std::copy_n(inputs[0], values, out);
    const auto& kernels = work.kernels;
    (kind_ == ActivationKind::tanh ? kernels.tanh_f32 : kernels.sigmoid_f32)(out, values);
  }

 private:
  void clip_each(const float* x, size_t frames, float* out) const {
    for (size_t frame = 0; frame < frames; ++frame)
      for (float limit : limits_)
        for (size_t band = 0; band < bands_; ++band) *out++ = std::min(std::max(*x++, 0.0f), limit);
  }

  ActivationKind kind_;
  float limit_;
  std::vector<float> limits_;  // one for each channel, or empty
  size_t size_, bands_;
};

// Puts the frames of each window into one frame: context windows, stacking, subsampling. With a
// window of one frame it also serves changes of shape, which move no values.
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

class Add : public Layer {
 public:
  explicit Add(const Signal& input) : size_(input.size()) {}

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work&) const override {
    std::copy_n(inputs[0], frames * size_, out);
    for (const float* x : inputs.subspan(1))
      for (size_t i = 0; i < frames * size_; ++i) out[i] += x[i];
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

}  // namespace

void add_bias(const std::vector<float>& bias, size_t frames, float* y) {
  for (size_t frame = 0; frame < frames; ++frame)
    for (size_t i = 0; i < bias.size(); ++i) y[frame * bias.size() + i] += bias[i];
}

std::unique_ptr<Layer> make_layer(const Node& node, std::span<const Signal> inputs,
                                  Packer& packer) {
  const Signal& input = inputs[0];
  const auto& ints = node.ints;
  switch (node.kind) {
    case LayerKind::linear:
      return std::make_unique<Linear>(node, packer);
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
      return std::make_unique<Activation>(node, input);
    case LayerKind::context_window:
      return std::make_unique<Gather>(input, Window{ints[0], 1 + ints[0] + ints[1], 1, ints[1]});
    case LayerKind::frame_stacking:
      return std::make_unique<Gather>(input, Window{0, ints[0], ints[1]});
    case LayerKind::subsample:
      return std::make_unique<Gather>(input, Window{0, 1, ints[0]});
    case LayerKind::unflatten:
    case LayerKind::flatten:
      return std::make_unique<Gather>(input, Window{});
    case LayerKind::add:
      return std::make_unique<Add>(input);
    case LayerKind::concat:
      return std::make_unique<Concat>(inputs);
    case LayerKind::log_softmax:
      return std::make_unique<LogSoftmax>(input);
  }
  throw FormatError("layer '" + node.name + "': kind of layer is unknown");
}

}  // namespace tinyvox
