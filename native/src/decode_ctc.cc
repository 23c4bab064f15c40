#include "decode_ctc.h"

#include <algorithm>

namespace tinyvox {

GreedyDecoder::GreedyDecoder(std::span<const std::string> tokens, uint32_t blank)
    : tokens_(tokens), blank_(blank), last_(blank) {
  text_.reserve(reserved_bytes);
}

void GreedyDecoder::begin() {
  last_ = blank_;
  text_.clear();
}

void GreedyDecoder::step(const float* scores) {
  const auto best =
      static_cast<uint32_t>(std::max_element(scores, scores + tokens_.size()) - scores);
  if (best != last_ && best != blank_) text_ += tokens_[best];
  last_ = best;
}

}  // namespace tinyvox
