#include "open.h"

#include "budget.h"
#include "decode_ctc.h"
#include "stream.h"

namespace tinyvox {
namespace {

constexpr double usual_frame_rate = 100;  // frames a second, if the file does not say it

double frame_rate(const File& file) {
  if (!file.speech) return usual_frame_rate;
  const FeatureConfig& config = file.speech->features;
  return static_cast<double>(config.sample_rate) / config.hop();
}

void check_products(const Model& model, double frames) {
  const auto products = static_cast<uint64_t>(model.products() * frames);
  if (products > max_products)
    throw LimitError("takes " + grouped(products) + " products a second of audio, the limit is " +
                     grouped(max_products) + "; take fewer weights, or a longer hop");
}

// Measures a model without its weights.
void check_needs(const File& file, const Kernels& kernels, Budget& budget) {
  const auto model = std::make_shared<const Model>(file, kernels, Model::Measured{});
  check_products(*model, frame_rate(file));
  budget.spend(model->bytes());
  budget.spend(Stream::bytes_of(model));
  if (file.speech) budget.spend(file.speech->features.bytes() + GreedyDecoder::reserved_bytes);
}

}  // namespace

std::shared_ptr<const Model> open_model(std::span<const uint8_t> bytes, const Kernels& kernels,
                                        const OpenOptions& options) {
  Budget budget(options.max_memory ? options.max_memory : default_memory(bytes.size()));
  File file = parse(bytes, budget);
  check_needs(file, kernels, budget);
  return std::make_shared<const Model>(std::move(file), kernels, options.threads);
}

}  // namespace tinyvox
