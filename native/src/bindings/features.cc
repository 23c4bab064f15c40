#include "features.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings.h"

namespace nb = nanobind;

namespace tinyvox {
namespace {

using Samples = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

FeatureKind kind_of(const std::string& name) {
  if (name == "log_mel") return FeatureKind::log_mel;
  if (name == "mfcc") return FeatureKind::mfcc;
  if (name == "deepspeech_mfcc") return FeatureKind::deepspeech_mfcc;
  throw nb::value_error(
      ("features of kind '" + name + "', expected log_mel, mfcc or deepspeech_mfcc").c_str());
}

}  // namespace

nb::object features_of(std::shared_ptr<const FeatureTables> tables,
                       std::span<const float> samples) {
  const size_t window = tables->config().window(), hop = tables->config().hop();
  const size_t frames = samples.size() < window ? 0 : 1 + (samples.size() - window) / hop;
  const size_t size = tables->config().size();
  auto* out = new float[std::max<size_t>(1, frames * size)];
  nb::capsule owner(out, [](void* p) noexcept { delete[] static_cast<float*>(p); });
  {
    nb::gil_scoped_release unlocked;
    FeatureStream(std::move(tables)).push(samples, out, frames);
  }
  return nb::cast(nb::ndarray<nb::numpy, float>(out, {frames, size}, owner));
}

void bind_features(nb::module_& m) {
  nb::class_<FeatureConfig>(m, "FeatureConfig")
      .def(
          "__init__",
          [](FeatureConfig* self, const std::string& kind, uint32_t sample_rate, float window_ms,
             float hop_ms, uint32_t bands, uint32_t coefficients, float low_hz, float high_hz,
             std::vector<float> mean, std::vector<float> deviation) {
            FeatureConfig config{kind_of(kind),   sample_rate,         window_ms, hop_ms,
                                 bands,           coefficients,        low_hz,    high_hz,
                                 std::move(mean), std::move(deviation)};
            if (const std::string fault = config.fault(); !fault.empty())
              throw nb::value_error(fault.c_str());
            new (self) FeatureConfig(std::move(config));
          },
          nb::kw_only(), nb::arg("kind"), nb::arg("sample_rate"), nb::arg("window_ms"),
          nb::arg("hop_ms"), nb::arg("bands"), nb::arg("coefficients"), nb::arg("low_hz"),
          nb::arg("high_hz"), nb::arg("mean"), nb::arg("deviation"))
      .def_prop_ro("size", &FeatureConfig::size);
  m.def(
      "features",
      [](const FeatureConfig& config, Samples samples) {
        return features_of(std::make_shared<FeatureTables>(config),
                           {samples.data(), samples.shape(0)});
      },
      nb::arg("config"), nb::arg("samples"),
      "Features of an utterance, float32 [frames, size], of float32 samples in [-1, 1).");
}

}  // namespace tinyvox
