// The limits on what a file may take: memory to open it, and work for a second of audio. They are
// checked by the shapes in the file, before the memory is taken and the work is done.
#pragma once

#include <cstdint>
#include <string>

#include "file.h"

namespace tinyvox {

// The file is no worse than others, but takes too much.
struct LimitError : FormatError {
  using FormatError::FormatError;
};

// Bytes that a file of `size` bytes may take with one stream. Entropy-coded weights take some dozen
// times the memory that they take in the file, and a small file may have wide layers.
constexpr uint64_t default_memory(uint64_t size) { return (uint64_t{40} << 20) + 128 * size; }

// Products a second of audio: about a hundred times what the largest speech models need, and more
// than a processor can do in that second.
inline constexpr uint64_t max_products = uint64_t{1} << 37;

// Bytes that a search may take in all that is its own, its words, hot words and one stream, if
// nobody says it: a beam some thousands wide.
inline constexpr uint64_t search_memory = uint64_t{1} << 30;

// Writes 209412 as "209 412".
std::string grouped(uint64_t number);

class Budget {
 public:
  // `advice` is what to do where more is needed.
  explicit Budget(uint64_t memory,
                  const char* advice = "pass a larger max_memory if you trust the file")
      : memory_(memory), advice_(advice) {}

  // Memory that will be taken. Raises LimitError if that is too much with what was spent before.
  void spend(uint64_t bytes);

 private:
  uint64_t memory_, spent_ = 0;
  const char* advice_;
};

}  // namespace tinyvox
