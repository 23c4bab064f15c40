// Streams of every seed, on every instruction set: the same outputs for any pieces, and again after
// a reset; as many as the model's rate says; and text by way of the C API.
#include "../fuzz/runner.h"
#include "check.h"
#include "tinyvox.h"

namespace {

using namespace tinyvox;
using namespace tinyvox::test;

fuzz::Random random(1);

std::vector<float> noise(size_t count) {
  std::vector<float> values(count);
  for (float& value : values) value = random.real(2);
  return values;
}

void check_set(const Seed& seed, const Kernels& kernels) {
  const std::string name = seed.name + ", " + kernels.isa;
  fuzz::Runner runner(seed.bytes, kernels);
  const size_t size = runner.model->input_size();
  const std::vector<float> features = noise(100 * size);
  const std::vector<float> whole = runner.run(features);
  expect(!whole.empty() && whole.size() % runner.model->output_size() == 0, name + ": outputs");
  for (int i = 0; i < 3; ++i) {
    runner.stream.reset();
    expect(runner.run(features, &random) == whole, name + ": the outputs depend on the pieces");
  }
  runner.stream.reset();
  expect(runner.run({}).empty(), name + ": outputs of nothing");
  runner.stream.reset();
  const auto less = runner.run(std::span(features).first(50 * size));
  const bool reduced = whole.size() == runner.model->output_size();  // one frame an utterance
  expect(reduced ? less.size() == whole.size() && less != whole : less.size() < whole.size(),
         name + ": fewer frames give fewer outputs, or another one");
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
