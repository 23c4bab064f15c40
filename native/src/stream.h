// One utterance on its way through a model: features in, outputs as early as they can be had.
//
// The result does not depend on how the features were cut into pieces. All memory is taken when the
// stream is made, but where a layer reads backwards in time and keeps the whole utterance.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "frames.h"
#include "model.h"

namespace tinyvox {

class Stream {
 public:
  // Raises FormatError where frames that have to wait would not fit the memory.
  explicit Stream(std::shared_ptr<const Model> model);

  // Features [frames, input size]; any number.
  void push(const float* features, size_t frames);

  // The utterance is over: what was waiting for later frames is put out.
  void finish();

  // Back to the beginning, for the next utterance.
  void reset();

  // Frames put out and not yet dropped.
  Frames& outputs() { return outputs_; }
  size_t bytes() const;

 private:
  // What waits before one input of a step.
  struct Edge {
    Frames frames;
    size_t owed = 0;  // frames to drop as soon as they come
  };

  void make_queues(bool counting);
  void rehearse();
  void reserve();
  void advance_all();
  void advance(size_t step);
  size_t ready(size_t step) const;
  void run(size_t step, size_t frames);
  void consume(size_t step, size_t frames);
  void add_zeros(Edge& edge, size_t frames, size_t size);
  uint64_t span() const;

  std::shared_ptr<const Model> model_;
  std::vector<std::vector<Edge>> edges_;         // [step][input]
  std::vector<std::vector<Frames*>> consumers_;  // [signal]: queues that it fills
  Frames outputs_{0};
  std::vector<std::vector<float>> states_;  // [step]
  std::vector<const float*> inputs_;        // of the step that runs
  Work work_;
  bool counting_ = false, started_ = false, finished_ = false;
};

// The model of a file's bytes, on which streams can be made. Raises FormatError.
std::shared_ptr<const Model> open_model(std::span<const uint8_t> bytes, const Kernels& kernels,
                                        size_t threads = 1);

}  // namespace tinyvox
