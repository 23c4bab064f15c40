#include "speech.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace tinyvox {
namespace {

std::unique_ptr<BeamDecoder> make_beam(const Model& model, const BeamSearch* search) {
  if (!search) return nullptr;
  if (search->vocabulary->alphabet.tokens() != model.output_size())
    throw std::invalid_argument("the search is for " +
                                std::to_string(search->vocabulary->alphabet.tokens()) +
                                " tokens, the model has " + std::to_string(model.output_size()));
  return std::make_unique<BeamDecoder>(*search);
}

// Raw scores become logarithms of probabilities.
void normalize(std::span<float> scores) {
  const float most = *std::max_element(scores.begin(), scores.end());
  float sum = 0;
  for (float score : scores) sum += std::exp(score - most);
  const float total = most + std::log(sum);
  for (float& score : scores) score -= total;
}

}  // namespace

double seconds_a_frame(const Model& model) {
  const FeatureConfig& config = model.speech()->features;
  const size_t stride = model.signal_stride(static_cast<uint32_t>(model.steps().size()));
  return static_cast<double>(config.hop() * std::max<size_t>(1, stride)) / config.sample_rate;
}

SpeechStream::SpeechStream(std::shared_ptr<const Model> model, const BeamSearch* search)
    : model_(std::move(model)),
      features_(model_->features()),
      frames_(max_frames * model_->input_size()),
      stream_(model_),
      greedy_(model_->speech()->tokens, model_->speech()->blank),
      beam_(make_beam(*model_, search)) {}

SpeechStream::SpeechStream(const SpeechStream& other)
    : model_(other.model_),
      features_(other.features_),
      frames_(other.frames_),
      stream_(other.stream_),
      greedy_(other.greedy_),
      beam_(other.beam_ ? std::make_unique<BeamDecoder>(*other.beam_) : nullptr),
      kept_(other.kept_),
      keeps_(other.keeps_),
      finished_(other.finished_) {}

void SpeechStream::feed(std::span<const float> samples) {
  while (const size_t frames = features_.push(samples, frames_.data(), max_frames)) {
    stream_.push(frames_.data(), frames);
    decode();
  }
}

void SpeechStream::finish() {
  stream_.finish();
  decode();
  finished_ = true;
}

void SpeechStream::reset() {
  features_.reset();
  stream_.reset();
  greedy_.begin();
  if (beam_) beam_->begin();
  kept_.clear();
  finished_ = false;
}

const std::string& SpeechStream::text() {
  if (!beam_) return greedy_.text();
  return text_ = beam_->text(best(1).front());
}

void SpeechStream::decode() {
  Frames& outputs = stream_.outputs();
  const size_t size = model_->output_size();
  for (size_t i = 0; i < outputs.count(); ++i) take({outputs.last(outputs.count() - i), size});
  outputs.drop(outputs.count());
}

void SpeechStream::take(std::span<float> scores) {
  if (!beam_) greedy_.step(scores.data());
  if ((beam_ || keeps_) && !model_->speech()->log_probabilities) normalize(scores);
  if (beam_) beam_->step(scores.data());
  if (keeps_) kept_.insert(kept_.end(), scores.begin(), scores.end());
}

size_t SpeechStream::bytes() const {
  return stream_.bytes() + frames_.size() * sizeof(float) + GreedyDecoder::reserved_bytes +
         (beam_ ? beam_->bytes() : 0);
}

}  // namespace tinyvox
