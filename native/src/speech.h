// Audio in, text out: feature extractor, model and decoder one after the other.
#pragma once

#include <utility>

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
  SpeechStream(const SpeechStream& other);  // as it is now, for what may come next
  SpeechStream& operator=(const SpeechStream&) = delete;

  void feed(std::span<const float> samples);
  void finish();
  void reset();
  // What was recognized so far. Valid until the stream is used again.
  const std::string& text();
  // The likeliest texts so far, the best first. Needs a beam search.
  std::vector<Transcript> best(size_t count) const { return beam_->best(count, finished_); }
  // From now on the natural logarithms of the tokens' probabilities, [frames, tokens], are kept
  // until they are taken, or the next utterance starts.
  void keep_log_probabilities() { keeps_ = true; }
  bool keeps_log_probabilities() const { return keeps_; }
  std::vector<float> take_log_probabilities() { return std::exchange(kept_, {}); }
  size_t tokens() const { return model_->output_size(); }
  const BeamDecoder* beam() const { return beam_.get(); }
  double seconds_a_frame() const { return tinyvox::seconds_a_frame(*model_); }
  size_t bytes() const;

 private:
  void decode();
  void take(std::span<float> scores);

  std::shared_ptr<const Model> model_;
  FeatureStream features_;
  std::vector<float> frames_;  // [max_frames, features]
  Stream stream_;
  GreedyDecoder greedy_;
  std::unique_ptr<BeamDecoder> beam_;  // null: greedy_ decodes
  std::string text_;                   // of the beam search
  std::vector<float> kept_;
  bool keeps_ = false, finished_ = false;
};

}  // namespace tinyvox
