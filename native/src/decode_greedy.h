// CTC decoding by the most likely token of each frame.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace tinyvox {

// Takes the most likely token of each frame, merges repeats and drops blanks. Call begin, then step
// for each frame. Source: Graves et al., "Connectionist temporal classification", 2006, section 3.2
// (best path decoding).
class GreedyDecoder {
 public:
  // A decoder allocates only for a text longer than this many bytes, which is hours of speech.
  static constexpr size_t reserved_bytes = 1u << 18;

  GreedyDecoder(std::span<const std::string> tokens, uint32_t blank);

  void begin();
  void step(const float* scores);                    // [tokens]
  const std::string& text() const { return text_; }  // without white space at its ends

 private:
  void append(const std::string& token);

  std::span<const std::string> tokens_;
  uint32_t blank_, last_;
  std::string text_, gap_;  // gap_: white space that is added once other text follows
};

}  // namespace tinyvox
