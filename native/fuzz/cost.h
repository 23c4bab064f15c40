// What it would take to run a file, from its shapes alone. Fuzzing passes over files that take
// long.
#pragma once

#include "file.h"

namespace tinyvox::fuzz {

struct Cost {
  uint64_t weights = 0;   // as packed
  uint64_t products = 0;  // for a frame of the input
  uint64_t span = 0;      // input frames until every layer has seen a whole window
  uint64_t waiting = 0;   // values in queues
  uint64_t bins = 0;      // of all filters of the feature extractor
  uint64_t samples = 0;   // of one window and hop
};

Cost cost_of(const File& file);

}  // namespace tinyvox::fuzz
