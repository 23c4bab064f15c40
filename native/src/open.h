// Opens a file: the only way from untrusted bytes to a model that runs.
#pragma once

#include <memory>
#include <span>

#include "model.h"

namespace tinyvox {

struct OpenOptions {
  size_t threads = 1;
  uint64_t max_memory = 0;  // bytes for the model and one stream; 0: default_memory of the file
};

// Raises FormatError, and LimitError if model and stream would take more memory or work than
// allowed. Both are found out before any weight is packed.
std::shared_ptr<const Model> open_model(std::span<const uint8_t> bytes, const Kernels& kernels,
                                        const OpenOptions& options = {});

}  // namespace tinyvox
