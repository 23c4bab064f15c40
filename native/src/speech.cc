#include "speech.h"

namespace tinyvox {

SpeechStream::SpeechStream(std::shared_ptr<const Model> model)
    : model_(std::move(model)),
      features_(model_->features()),
      frames_(max_frames * model_->input_size()),
      stream_(model_),
      decoder_(model_->speech()->tokens, model_->speech()->blank) {}

void SpeechStream::feed(std::span<const float> samples) {
  while (const size_t frames = features_.push(samples, frames_.data(), max_frames)) {
    stream_.push(frames_.data(), frames);
    decode();
  }
}

void SpeechStream::finish() {
  stream_.finish();
  decode();
}

void SpeechStream::reset() {
  features_.reset();
  stream_.reset();
  decoder_.begin();
}

void SpeechStream::decode() {
  Frames& outputs = stream_.outputs();
  for (size_t i = 0; i < outputs.count(); ++i)
    decoder_.step(outputs.data() + i * model_->output_size());
  outputs.drop(outputs.count());
}

size_t SpeechStream::bytes() const {
  return stream_.bytes() + frames_.size() * sizeof(float) + GreedyDecoder::reserved_bytes;
}

}  // namespace tinyvox
