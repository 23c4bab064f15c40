// Streams of every seed, on every instruction set: the same outputs for any pieces, and again after
// a reset; as many as the model's rate says; and text by way of the C API.
#include "../fuzz/runner.h"
#include "check.h"
#include "tinyvox.h"

namespace {

using namespace tinyvox;
using namespace tinyvox::test;

fuzz::Random random(1);

// Frames of noise, or token ids where the model takes these.
std::vector<float> make_inputs(const Model& model, size_t frames) {
  std::vector<float> values(frames * model.input_size());
  for (float& value : values)
    value = model.ids() ? static_cast<float>(random.below(model.ids())) : random.real(2);
  return values;
}

// Fewer frames give fewer outputs. A model of one frame an utterance gives another one for some
// numbers of frames: a softmax that is at its ends gives few different ones.
void check_lengths(fuzz::Runner& runner, std::span<const float> features,
                   const std::vector<float>& whole, const std::string& name) {
  const bool reduces = whole.size() == runner.model->output_size();
  bool differs = false;
  for (size_t frames = 10; frames < 100; frames += 10) {
    runner.stream.reset();
    const auto less = runner.run(features.first(frames * runner.model->input_size()));
    expect(reduces ? less.size() == whole.size() : less.size() < whole.size(),
           name + ": as many outputs of " + std::to_string(frames) + " frames");
    differs |= less != whole;
  }
  expect(differs, name + ": the same output for any number of frames");
}

void check_set(const Seed& seed, const Kernels& kernels) {
  const std::string name = seed.name + ", " + kernels.isa;
  fuzz::Runner runner(seed.bytes, kernels);
  const std::vector<float> features = make_inputs(*runner.model, 100);
  const std::vector<float> whole = runner.run(features);
  expect(!whole.empty() && whole.size() % runner.model->output_size() == 0, name + ": outputs");
  for (int i = 0; i < 3; ++i) {
    runner.stream.reset();
    expect(runner.run(features, &random) == whole, name + ": the outputs depend on the pieces");
  }
  runner.stream.reset();
  expect(runner.run({}).empty(), name + ": outputs of nothing");
  check_lengths(runner, features, whole, name);
}

void check_sets(const Seed& seed) {
  const char* names[8];
  for (const char* name : std::span(names, kernel_names(names, 8)))
    check_set(seed, *kernels_named(name));
}

std::string text_of(tv_stream* stream, const std::vector<int16_t>& samples, size_t piece) {
  tv_stream_reset(stream);
  for (size_t start = 0; start < samples.size(); start += piece)
    tv_stream_feed(stream, samples.data() + start, std::min(piece, samples.size() - start));
  expect(tv_stream_finish(stream) == TV_OK, "finish");
  expect(tv_stream_finish(stream) == TV_OK, "finish again");
  expect(tv_stream_feed(stream, samples.data(), 1) == TV_ERROR_FINISHED, "feed after the end");
  return tv_stream_text(stream);
}

void check_text(const Seed& seed) {
  tv_model* model = nullptr;
  tv_stream* stream = nullptr;
  expect(tv_open_memory(seed.bytes.data(), seed.bytes.size(), &model) == TV_OK, seed.name);
  const tv_error opened = tv_stream_open(model, &stream);
  if (!parse(seed.bytes).speech) {
    expect(opened == TV_ERROR_NO_SPEECH, seed.name + ": a stream without a card");
  } else {
    expect(opened == TV_OK && tv_sample_rate(model) == 16000, seed.name + ": a stream");
    std::vector<int16_t> samples(16000);
    for (int16_t& sample : samples) sample = static_cast<int16_t>(random.next());
    const std::string whole = text_of(stream, samples, samples.size());
    for (size_t piece : {1, 7, 320, 1000})
      expect(text_of(stream, samples, piece) == whole, seed.name + ": the text of pieces");
  }
  tv_stream_close(stream);
  tv_close(model);
}

}  // namespace

int main() {
  for (const Seed& seed : seeds()) {
    check_sets(seed);
    check_text(seed);
  }
  return finish();
}
