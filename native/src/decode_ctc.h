// CTC decoding, step by step: begin, step for each frame, text.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace tinyvox {

// The most likely token of each frame, repeats merged, blanks dropped (Graves 2006, best path).
class GreedyDecoder {
 public:
  // Text beyond this many bytes makes a decoder allocate: hours of speech.
  static constexpr size_t reserved_bytes = 1u << 18;

  GreedyDecoder(std::span<const std::string> tokens, uint32_t blank);

  void begin();
  void step(const float* scores);                    // [tokens]
  const std::string& text() const { return text_; }  // without white space at its ends

 private:
  void append(const std::string& token);

  std::span<const std::string> tokens_;
  uint32_t blank_, last_;
  std::string text_, gap_;  // white space waits in the gap for what follows it
};

}  // namespace tinyvox
