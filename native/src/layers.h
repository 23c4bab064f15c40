// What each layer computes, frame by frame. Layers are immutable. A stream keeps the values that
// last from frame to frame in its `state`, and temporary values in its `Work`.
#pragma once

#include <cmath>
#include <memory>
#include <optional>
#include <span>

#include "file.h"
#include "matrix.h"

namespace tinyvox {

// The frames that a layer reads. It sees `before` and `after` frames of zeros around the utterance.
// It needs `reach` frames for one frame of output, and moves on by `stride` frames. A layer that
// reads backwards in time needs the whole utterance. A layer that reduces it to one frame does not,
// unless it says so: it takes frames in as they come. A layer may make several frames of each, or
// see other `padding` than zeros. One that spreads repeats the one frame of its first input for
// each of the second.
struct Window {
  size_t before = 0, reach = 1, stride = 1, after = 0;
  bool whole = false, reduces = false, spreads = false;
  size_t makes = 1;
  float padding = 0;
};

struct Work {
  const Kernels& kernels;
  MatrixWork matrix;
  std::vector<float> scratch;
};

class Layer {
 public:
  virtual ~Layer() = default;

  virtual Window window() const { return {}; }
  virtual size_t state_size() const { return 0; }    // floats, all zero before the first frame
  virtual size_t scratch_size() const { return 0; }  // floats
  virtual size_t bytes() const { return 0; }         // memory of the weights
  virtual size_t products() const { return 0; }      // to compute one frame
  virtual void reserve(MatrixWork&) const {}
  virtual size_t ids() const { return 0; }  // that the input may hold, if it holds token ids

  // Takes frames into `state`: of a layer that reduces, which then `run` once, without inputs, when
  // the utterance ends. One that needs the whole utterance gets it in `run` instead.
  virtual void take(const float*, size_t, float*) const {}

  // Computes `frames` frames, at most max_frames unless the layer needs the whole utterance. The
  // window of the first one begins at inputs[i], and each next window `stride` frames later. `out`
  // is [frames, size of the output].
  virtual void run(std::span<const float* const> inputs, size_t frames, float* out, float* state,
                   Work& work) const = 0;
};

// An activation that is min(max(x, least), most) for every value.
struct Limits {
  float least = -INFINITY, most = INFINITY;
};

// Makes the layer of a node. `inputs` are the signals that it reads; a model has one `packer`. A
// linear layer keeps its outputs within the limits, which no other may have.
std::unique_ptr<Layer> make_layer(const Node& node, std::span<const Signal> inputs, Packer& packer,
                                  const Limits& limits = {});

// The limits that an activation is; empty if the node is another one, or another layer.
std::optional<Limits> limits_of(const Node& node);

// Used by make_layer; each is in a file of its own.
std::unique_ptr<Layer> make_recurrent(const Node& node, const Signal& input, Packer& packer);
std::unique_ptr<Layer> make_conv1d(const Node& node, const Signal& input, Packer& packer);
std::unique_ptr<Layer> make_conv2d(const Node& node, const Signal& input, Packer& packer);

std::unique_ptr<Layer> make_activation(const Node& node, const Signal& input);
std::unique_ptr<Layer> make_reduction(const Node& node, const Signal& input);
std::unique_ptr<Layer> make_pool(const Node& node, const Signal& input);
std::unique_ptr<Layer> make_take(const Node& node, const Signal& input);
std::unique_ptr<Layer> make_spread(const Signal& one);
std::unique_ptr<Layer> make_time_softmax(const Signal& input);
std::unique_ptr<Layer> make_embedding(const Node& node, const Packer& packer);
std::unique_ptr<Layer> make_elementwise_recurrence(const Node& node, const Signal& input);

// Adds a bias to each frame, if there is one.
void add_bias(const std::vector<float>& bias, size_t frames, float* y);

}  // namespace tinyvox
