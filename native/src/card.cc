#include "card.h"

#include "bytes.h"
#include "format.h"

namespace tinyvox {
namespace {

constexpr uint8_t log_probabilities = 1, normalized = 2, floored = 4;

FeatureConfig read_features(Reader& reader, uint8_t flags) {
  FeatureConfig config;
  config.kind = static_cast<FeatureKind>(reader.varint("kind of features", 0, 2));
  config.sample_rate = reader.varint("sample rate", 1000, 192000);
  config.bands = reader.varint("bands", 1, 256);
  config.coefficients = reader.varint("coefficients", 1, 256);
  config.window_ms = reader.f32();
  config.hop_ms = reader.f32();
  config.low_hz = reader.f32();
  config.high_hz = reader.f32();
  if (flags & floored) config.noise_floor_db = reader.f32();
  if (flags & normalized) {
    config.mean = reader.floats(config.size(), false);
    config.deviation = reader.floats(config.size(), false);
  }
  if (const std::string fault = config.fault(); !fault.empty()) fail(fault);
  return config;
}

}  // namespace

Speech read_speech(Reader& reader, uint32_t version) {
  Speech speech;
  const uint8_t flags = reader.u8();
  const uint8_t known = log_probabilities | normalized | (version >= gating_version ? floored : 0);
  if (flags & ~known) fail("unknown flags");
  speech.log_probabilities = flags & log_probabilities;
  speech.features = read_features(reader, flags);
  const uint32_t tokens = reader.varint("number of tokens", 1, max_tokens);
  speech.blank = reader.varint("blank", 0, tokens - 1);
  for (uint32_t i = 0; i < tokens; ++i) speech.tokens.push_back(reader.text("a token", max_name));
  return speech;
}

}  // namespace tinyvox
