// What each layer computes, frame by frame. Layers are immutable; what a stream keeps between
// frames lies in its `state`, what it needs meanwhile in its `Work`.
#pragma once

#include <memory>
#include <span>

#include "file.h"
#include "matrix.h"

namespace tinyvox {

// What a layer looks at: `before` and `after` frames of zeros around the utterance, `reach` frames
// for one frame of output, of which `stride` are then done with. A layer that reads backwards in
// time needs the whole utterance.
struct Window {
  size_t before = 0, reach = 1, stride = 1, after = 0;
  bool whole = false;
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
  virtual size_t bytes() const { return 0; }         // of weights
  virtual void reserve(MatrixWork&) const {}

  // inputs[i] points to the window of the first frame to put out; one window lies `stride` frames
  // after the other. `out` is [frames, size of the output]. At most max_frames, but for a layer
  // that needs the whole utterance.
  virtual void run(std::span<const float* const> inputs, size_t frames, float* out, float* state,
                   Work& work) const = 0;
};

// `inputs` are the signals that feed the node; `packer` is that of the whole model.
std::unique_ptr<Layer> make_layer(const Node& node, std::span<const Signal> inputs, Packer& packer);

// The rooms that make_layer calls on.
std::unique_ptr<Layer> make_recurrent(const Node& node, const Signal& input, Packer& packer);
std::unique_ptr<Layer> make_conv1d(const Node& node, const Signal& input, Packer& packer);
std::unique_ptr<Layer> make_conv2d(const Node& node, const Signal& input, Packer& packer);

// Adds a bias, if there is one, to each frame.
void add_bias(const std::vector<float>& bias, size_t frames, float* y);

}  // namespace tinyvox
