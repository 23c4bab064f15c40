// A model made from a validated file. Any number of streams can share it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "features.h"
#include "file.h"
#include "layers.h"

namespace tinyvox {

class Model {
 public:
  struct Step {
    std::shared_ptr<const Layer> layer;  // which repeated steps share
    std::vector<uint32_t> inputs;        // 0 is the model's input, i + 1 is step i
    Signal signal;                       // of the output
  };

  // The limits that each node of a file keeps its outputs within, if any.
  using Ends = std::vector<std::optional<Limits>>;

  // `threads` threads share the work of a matrix.
  Model(File file, const Kernels& kernels, size_t threads = 1);

  // A model that is only measured: it packs no weights, and no stream can run it.
  struct Measured {};
  Model(const File& file, const Kernels& kernels, Measured);

  size_t input_size() const { return input_size_; }
  // How many token ids there are, if the input is ids; else 0.
  size_t ids() const { return ids_; }
  size_t output_size() const { return steps_.back().signal.size(); }
  const std::vector<Step>& steps() const { return steps_; }
  const Kernels& kernels() const { return kernels_; }
  Threads& threads() const { return *threads_; }
  size_t bytes() const;     // of packed weights
  double products() const;  // for a frame of the input, with all values that layers put out

  // The size of a frame of a signal, and the input frames for one of its frames. Signals are
  // numbered as in Step::inputs.
  size_t signal_size(uint32_t signal) const;
  size_t signal_stride(uint32_t signal) const;

  // Null if the file has no speech card.
  const Speech* speech() const { return speech_ ? &*speech_ : nullptr; }
  const std::shared_ptr<const FeatureTables>& features() const { return features_; }

 private:
  void add(const Node& node, const Ends& ends, Packer& packer);
  Signal signal(uint32_t which) const;

  size_t input_size_, ids_ = 0;
  std::vector<Step> steps_;
  std::vector<uint32_t> numbers_{0};  // of the signals of the file, as in Step::inputs
  std::optional<Speech> speech_;
  std::shared_ptr<const FeatureTables> features_;
  const Kernels& kernels_;
  std::unique_ptr<Threads> threads_;
};

}  // namespace tinyvox
