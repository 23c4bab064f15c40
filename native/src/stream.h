// Runs a model over one utterance: takes features, and gives each output as early as possible.
//
// The result does not depend on how the features are cut into pieces. All memory is allocated when
// the stream is made, unless a layer reads backwards in time and so keeps the whole utterance.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "frames.h"
#include "model.h"

namespace tinyvox {

class Stream {
 public:
  // Raises LimitError if layers wait too long for each other.
  explicit Stream(std::shared_ptr<const Model> model);
  Stream(const Stream& other);  // as it is now, for what may come next
  Stream& operator=(const Stream&) = delete;

  // The memory that a stream takes, without taking it; the model may be one that is only measured.
  // Raises LimitError as the constructor does.
  static size_t bytes_of(std::shared_ptr<const Model> model);

  // Takes any number of frames, [frames, input size]. Raises std::invalid_argument, and takes none,
  // if the model takes token ids and one is out of range.
  void push(const float* features, size_t frames);

  // Ends the utterance: computes the outputs that waited for later frames.
  void finish();

  // Starts the next utterance.
  void reset();

  // The outputs that the caller has not dropped yet.
  Frames& outputs() { return outputs_; }
  size_t bytes() const;

 private:
  // The frames that wait for one input of a step.
  struct Edge {
    Frames frames;
    size_t owed = 0;     // frames to drop as soon as they arrive
    bool taken = false;  // whether a layer that reduces has taken frames
  };

  struct Counting {};
  Stream(std::shared_ptr<const Model> model, Counting);

  void assign_stores();
  void make_queues(bool counting);
  void rehearse();
  void check_span() const;
  size_t counted_bytes() const;
  std::vector<size_t> store_sizes() const;
  void allocate();
  void check_ids(std::span<const float> ids) const;
  void advance_all();
  void advance(size_t step);
  void reduce(size_t step);
  size_t ready(size_t step) const;
  void run(size_t step, size_t frames);
  void consume(size_t step, size_t frames);
  void pad(Edge& edge, size_t frames, size_t size, float value);
  uint64_t span() const;
  size_t edge_count() const;
  bool keeps_none(size_t step) const;

  std::shared_ptr<const Model> model_;
  Frames::Store output_store_;
  std::vector<Frames::Store> stores_;
  std::vector<std::vector<size_t>> store_of_;    // [step][input]
  std::vector<std::vector<Edge>> edges_;         // [step][input]
  std::vector<std::vector<Frames*>> consumers_;  // [signal]: queues that it fills
  Frames outputs_{0, output_store_};
  std::vector<std::vector<float>> states_;  // [step]
  std::vector<const float*> inputs_;        // of the step that is running
  Work work_;
  bool counting_ = false, started_ = false, finished_ = false;
};

}  // namespace tinyvox
