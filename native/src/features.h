// Audio to features. This is the only feature extractor, for training and at run time.
//
// There are three kinds. All are streaming: a frame is computed as soon as its last sample arrives,
// and the result does not depend on how the audio is cut into pieces.
//
//   log_mel          Kaldi's log-mel filterbank
//   mfcc             Kaldi's MFCC (cepstral lifter 22, C0 in place of the energy)
//   deepspeech_mfcc  TensorFlow's AudioSpectrogram (squared magnitude) and Mfcc operators
//
// Samples are float32 in [-1, 1). Kaldi's kinds scale them to 16-bit range first, as Kaldi does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace tinyvox {

enum class FeatureKind : uint8_t { log_mel = 0, mfcc = 1, deepspeech_mfcc = 2 };

struct FeatureConfig {
  FeatureKind kind = FeatureKind::deepspeech_mfcc;
  uint32_t sample_rate = 16000;
  float window_ms = 32.0f;
  float hop_ms = 20.0f;
  uint32_t bands = 40;
  uint32_t coefficients = 26;
  float low_hz = 20.0f;
  float high_hz = 4000.0f;
  // The level of white noise, in dB relative to full scale, whose energy in a band that band does
  // not fall below. Digital silence, whose logarithm is far from that of any recording, then looks
  // like a quiet room.
  std::optional<float> noise_floor_db;
  std::vector<float> mean;       // empty, or one value a feature
  std::vector<float> deviation;  // as long as mean; above zero

  uint32_t size() const { return kind == FeatureKind::log_mel ? bands : coefficients; }
  uint32_t window() const;  // samples
  uint32_t hop() const;     // samples

  uint32_t fft_size() const;
  size_t bytes() const;   // at most, of the tables and of a stream
  uint64_t work() const;  // steps for a second of audio, each about a nanosecond

  // Empty if the settings are usable, else what is wrong with them.
  std::string fault() const;
};

// Immutable tables (window, filterbank, cosines) that any number of streams share.
class FeatureTables {
 public:
  explicit FeatureTables(const FeatureConfig& config);

  const FeatureConfig& config() const { return config_; }
  uint32_t fft_size() const { return fft_size_; }

  // Computes one frame: `samples` is [window()], `out` is [size()], `work` has room for
  // work_size() floats.
  void frame(const float* samples, float* out, float* work) const;
  size_t work_size() const;

 private:
  // The bins [first, first + weights.size()) of one triangular filter.
  struct Filter {
    uint32_t first;
    std::vector<float> weights;
  };

  void make_window();
  void make_fft();
  void make_kaldi_filters();
  void make_tensorflow_filters();
  void make_floors();
  void make_cosines();
  std::vector<double> mels_of_bins() const;

  void prepare(const float* samples, float* work) const;
  void fft(const float* samples, float* real, float* imaginary) const;
  void power_spectrum(float* work) const;
  void log_bands(float* power, float* out) const;

  FeatureConfig config_;
  uint32_t fft_size_;
  // Factors of the transform. Real and imaginary parts are two arrays, so that loops over them
  // vectorize.
  struct Twiddles {
    std::vector<float> real, imaginary;
    void push(double turns);  // e^(-2 pi i turns)
  };

  std::vector<float> window_;       // [config.window()]
  Twiddles stages_;                 // of the half-size complex transform, stage by stage
  Twiddles split_;                  // half-size complex to full-size real, [fft_size / 4 + 1]
  std::vector<uint32_t> reversed_;  // bit-reversed indices, [fft_size / 2]
  std::vector<Filter> filters_;     // [bands]
  std::vector<float> floors_;       // [bands], the least that a filter gives
  std::vector<float> cosines_;      // [bands, coefficients], lifter included
};

// The samples that the next frames still need. No allocation after construction.
class FeatureStream {
 public:
  FeatureStream(std::shared_ptr<const FeatureTables> tables);

  // Takes samples until none are left or `max_frames` frames are computed; `out` is
  // [max_frames, size]. Returns the number of frames and moves `samples` past the samples taken.
  size_t push(std::span<const float>& samples, float* out, size_t max_frames);
  void reset();

 private:
  std::shared_ptr<const FeatureTables> tables_;
  std::vector<float> pending_;  // [window]
  size_t filled_ = 0;
  size_t skip_ = 0;  // samples to drop first, if the hop is longer than the window
  std::vector<float> work_;
};

}  // namespace tinyvox
