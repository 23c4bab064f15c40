// Audio in, text out: feature extractor, model and decoder one after the other.
#pragma once

#include "decode_ctc.h"
#include "stream.h"

namespace tinyvox {

// Seconds from one output frame of a model with a speech card to the next.
double seconds_a_frame(const Model& model);

class SpeechStream {
 public:
  // The model must have a speech card. Decodes greedily without `search`; else raises
  // std::invalid_argument if that is for other tokens.
  explicit SpeechStream(std::shared_ptr<const Model> model, const BeamSearch* search = nullptr);
  SpeechStream(const SpeechStream&) = delete;
  SpeechStream& operator=(const SpeechStream&) = delete;

  void feed(std::span<const float> samples);
  void finish();
  void reset();
  // What was recognized so far. Valid until the stream is used again.
  const std::string& text();
  // The likeliest texts so far, the best first. Needs a beam search.
  std::vector<Transcript> best(size_t count) const { return beam_->best(count, finished_); }
  const BeamDecoder* beam() const { return beam_.get(); }
  double seconds_a_frame() const { return tinyvox::seconds_a_frame(*model_); }
  size_t bytes() const;

 private:
  void decode();

  std::shared_ptr<const Model> model_;
  FeatureStream features_;
  std::vector<float> frames_;  // [max_frames, features]
  Stream stream_;
  GreedyDecoder greedy_;
  std::unique_ptr<BeamDecoder> beam_;  // null: greedy_ decodes
  std::string text_;                   // of the beam search
  bool finished_ = false;
};

}  // namespace tinyvox
