#include "decode_greedy.h"

#include <algorithm>
#include <string_view>

namespace tinyvox {
namespace {

constexpr std::string_view white = " \t\n\v\f\r";

}  // namespace

GreedyDecoder::GreedyDecoder(std::span<const std::string> tokens, uint32_t blank)
    : tokens_(tokens), blank_(blank), last_(blank) {
  text_.reserve(reserved_bytes);
}

void GreedyDecoder::begin() {
  last_ = blank_;
  text_.clear();
  gap_.clear();
}

void GreedyDecoder::step(const float* scores) {
  const auto best =
      static_cast<uint32_t>(std::max_element(scores, scores + tokens_.size()) - scores);
  if (best != last_ && best != blank_) append(tokens_[best]);
  last_ = best;
}

void GreedyDecoder::append(const std::string& token) {
  for (char c : token) {
    if (white.find(c) == white.npos) {
      text_ += gap_;
      text_ += c;
      gap_.clear();
    } else if (!text_.empty()) {
      gap_ += c;
    }
  }
}

}  // namespace tinyvox
