// Audio in, text out: feature extractor, model and decoder one after the other.
#pragma once

#include "decode_ctc.h"
#include "stream.h"

namespace tinyvox {

class SpeechStream {
 public:
  // The model must have a speech card.
  explicit SpeechStream(std::shared_ptr<const Model> model);
  SpeechStream(const SpeechStream&) = delete;
  SpeechStream& operator=(const SpeechStream&) = delete;

  void feed(std::span<const float> samples);
  void finish();
  void reset();
  const std::string& text() const { return decoder_.text(); }
  size_t bytes() const;

 private:
  void decode();

  std::shared_ptr<const Model> model_;
  FeatureStream features_;
  std::vector<float> frames_;  // [max_frames, features]
  Stream stream_;
  GreedyDecoder decoder_;
};

}  // namespace tinyvox
