#include "features.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numbers>

namespace tinyvox {
namespace {

constexpr double pi = std::numbers::pi;
constexpr float kaldi_preemphasis = 0.97f;
constexpr double kaldi_lifter = 22.0;
constexpr float kaldi_sample_scale = 32768.0f;
constexpr float kaldi_floor = 1.1920928955078125e-7f;  // FLT_EPSILON
constexpr float tensorflow_floor = 1e-12f;

constexpr uint64_t max_work = uint64_t{1} << 29;  // half a second of a processor

double mel(double hz) { return 1127.0 * std::log1p(hz / 700.0); }

// The first of the bins that lies above a place.
uint32_t first_above(const std::vector<double>& mels, double place) {
  return static_cast<uint32_t>(std::upper_bound(mels.begin(), mels.end(), place) - mels.begin());
}

uint32_t samples(float milliseconds, uint32_t rate) {
  return static_cast<uint32_t>(std::lround(milliseconds * 0.001 * rate));
}

}  // namespace

uint32_t FeatureConfig::window() const { return samples(window_ms, sample_rate); }
uint32_t FeatureConfig::hop() const { return samples(hop_ms, sample_rate); }
uint32_t FeatureConfig::fft_size() const { return std::max(8u, std::bit_ceil(window())); }

// The arrays of the transform and of the filters are at most eight times its size.
size_t FeatureConfig::bytes() const {
  return sizeof(float) * (8 * size_t{fft_size()} + 2 * size_t{window()} + size_t{bands} * size());
}

// The transform, a logarithm for each band, and the cosines.
uint64_t FeatureConfig::work() const {
  const uint64_t transform = uint64_t{fft_size()} * std::bit_width(fft_size());
  const uint64_t frame = transform + bands * (uint64_t{16} + size());
  return frame * sample_rate / hop();
}

std::string FeatureConfig::fault() const {
  // Written so that NaN fails each test.
  if (sample_rate < 1000 || sample_rate > 192000) return "sample rate outside 1 to 192 kHz";
  if (!(window_ms > 0 && window_ms <= 1000)) return "window outside 0 to 1000 ms";
  if (!(hop_ms > 0 && hop_ms <= 1000)) return "hop outside 0 to 1000 ms";
  if (window() < 2 || hop() < 1) return "window shorter than two samples, or hop than one";
  if (bands < 1 || bands > 256) return "bands outside 1 to 256";
  if (kind != FeatureKind::log_mel && (coefficients < 1 || coefficients > bands))
    return "coefficients outside 1 to the number of bands";
  if (!(low_hz >= 0 && high_hz > low_hz && high_hz <= sample_rate / 2.0f))
    return "band limits outside 0 to half the sample rate";
  if (noise_floor_db && !(*noise_floor_db >= -140 && *noise_floor_db <= 0))
    return "noise floor outside -140 to 0 dB";
  if (mean.size() != deviation.size() || (!mean.empty() && mean.size() != size()))
    return "mean and deviation not one value a feature";
  for (float value : mean)
    if (!std::isfinite(value)) return "mean not finite";
  for (float value : deviation)
    if (!(value > 0 && std::isfinite(value))) return "deviation not above zero";
  if (work() > max_work)
    return "features take " + std::to_string(work()) + " steps a second of audio, the limit is " +
           std::to_string(max_work) + "; take a longer hop or a shorter window";
  return {};
}

FeatureTables::FeatureTables(const FeatureConfig& config)
    : config_(config), fft_size_(config.fft_size()) {
  make_window();
  make_fft();
  if (config_.kind == FeatureKind::deepspeech_mfcc) {
    make_tensorflow_filters();
  } else {
    make_kaldi_filters();
  }
  make_floors();
  if (config_.kind != FeatureKind::log_mel) make_cosines();
}

void FeatureTables::make_window() {
  const uint32_t length = config_.window();
  const bool periodic = config_.kind == FeatureKind::deepspeech_mfcc;
  window_.resize(length);
  for (uint32_t i = 0; i < length; ++i) {
    const double hann = 0.5 - 0.5 * std::cos(2 * pi * i / (periodic ? length : length - 1));
    window_[i] = static_cast<float>(periodic ? hann : std::pow(hann, 0.85));
  }
}

void FeatureTables::Twiddles::push(double turns) {
  real.push_back(static_cast<float>(std::cos(2 * pi * turns)));
  imaginary.push_back(static_cast<float>(-std::sin(2 * pi * turns)));
}

void FeatureTables::make_fft() {
  const uint32_t size = fft_size_ / 2;
  const int bits = std::countr_zero(size);
  for (uint32_t half = 4; half < size; half *= 2)
    for (uint32_t k = 0; k < half; ++k) stages_.push(k / (2.0 * half));
  for (uint32_t k = 0; k <= size / 2; ++k) split_.push(static_cast<double>(k) / fft_size_);
  reversed_.assign(size, 0);
  for (uint32_t i = 1; i < size; ++i)
    reversed_[i] = (reversed_[i >> 1] >> 1) | ((i & 1) << (bits - 1));
}

// Of bins 0 to fft_size / 2, in mels.
std::vector<double> FeatureTables::mels_of_bins() const {
  const double hz_a_bin = static_cast<double>(config_.sample_rate) / fft_size_;
  std::vector<double> mels(fft_size_ / 2 + 1);
  for (uint32_t bin = 0; bin < mels.size(); ++bin) mels[bin] = mel(bin * hz_a_bin);
  return mels;
}

// Povey et al., Kaldi, feat/mel-computations.cc: triangles in the mel domain, no bin at Nyquist.
void FeatureTables::make_kaldi_filters() {
  const std::vector<double> mels = mels_of_bins();
  const double low = mel(config_.low_hz);
  const double delta = (mel(config_.high_hz) - low) / (config_.bands + 1);
  for (uint32_t band = 0; band < config_.bands; ++band) {
    const double left = low + band * delta, center = left + delta, right = center + delta;
    uint32_t bin = first_above(mels, left);
    Filter filter{bin, {}};
    for (; bin < fft_size_ / 2 && mels[bin] < right; ++bin) {
      const double at = mels[bin];
      filter.weights.push_back(
          static_cast<float>(at <= center ? (at - left) / delta : (right - at) / delta));
    }
    filters_.push_back(std::move(filter));
  }
}

// TensorFlow, core/kernels/mfcc_mel_filterbank.cc: each bin counts for its two nearest centers.
void FeatureTables::make_tensorflow_filters() {
  const double hz_a_bin = static_cast<double>(config_.sample_rate) / fft_size_;
  const auto first = static_cast<uint32_t>(1.5 + config_.low_hz / hz_a_bin);
  const auto last = std::min(static_cast<uint32_t>(config_.high_hz / hz_a_bin), fft_size_ / 2);
  const std::vector<double> mels = mels_of_bins();
  const double low = mel(config_.low_hz);
  const double delta = (mel(config_.high_hz) - low) / (config_.bands + 1);
  for (uint32_t band = 0; band < config_.bands; ++band) {
    const double left = low + band * delta, center = left + delta, right = center + delta;
    uint32_t bin = std::max(first, first_above(mels, left));
    Filter filter{std::min(bin, fft_size_ / 2), {}};
    for (; bin <= last && mels[bin] <= right; ++bin) {
      const double at = mels[bin];
      // A bin on a center belongs to the rising side of that center's own band.
      filter.weights.push_back(
          static_cast<float>(at <= center ? (at - left) / delta : (right - at) / delta));
    }
    filters_.push_back(std::move(filter));
  }
}

// What each filter is expected to give for white noise of the level of the floor. A bin's power is
// then exponentially distributed, and its magnitude has a Rayleigh distribution.
void FeatureTables::make_floors() {
  const bool tensorflow = config_.kind == FeatureKind::deepspeech_mfcc;
  floors_.assign(config_.bands, tensorflow ? tensorflow_floor : kaldi_floor);
  if (!config_.noise_floor_db) return;
  const double scale = tensorflow ? 1.0 : kaldi_sample_scale;
  double power = scale * scale * std::pow(10.0, *config_.noise_floor_db / 10.0);
  double gain = 0;  // of the window
  for (const float value : window_) gain += static_cast<double>(value) * value;
  power *= gain;
  for (size_t band = 0; band < filters_.size(); ++band) {
    const Filter& filter = filters_[band];
    double sum = 0;
    for (size_t i = 0; i < filter.weights.size(); ++i) {
      const double turn = 2 * pi * static_cast<double>(filter.first + i) / fft_size_;
      const double emphasis =
          1 + kaldi_preemphasis * (kaldi_preemphasis - 2 * std::cos(turn));  // |1 - a e^(-it)|^2
      sum += filter.weights[i] * (tensorflow ? std::sqrt(pi / 4 * power) : power * emphasis);
    }
    floors_[band] = std::max(floors_[band], static_cast<float>(sum));
  }
}

void FeatureTables::make_cosines() {
  const uint32_t bands = config_.bands;
  const bool kaldi = config_.kind == FeatureKind::mfcc;
  cosines_.resize(static_cast<size_t>(config_.coefficients) * bands);
  for (uint32_t k = 0; k < config_.coefficients; ++k) {
    // Kaldi's transform is orthonormal. TensorFlow scales the first row as all others.
    const double norm = std::sqrt((kaldi && k == 0 ? 1.0 : 2.0) / bands);
    const double lift = kaldi ? 1 + 0.5 * kaldi_lifter * std::sin(pi * k / kaldi_lifter) : 1.0;
    for (uint32_t n = 0; n < bands; ++n)
      cosines_[n * config_.coefficients + k] =
          static_cast<float>(lift * norm * std::cos(pi / bands * (n + 0.5) * k));
  }
}

// Room for the samples (later the powers), for the transform's real and imaginary parts, and for
// the bands.
size_t FeatureTables::work_size() const { return 2 * fft_size_ + config_.bands; }

void FeatureTables::frame(const float* samples, float* out, float* work) const {
  prepare(samples, work);
  power_spectrum(work);
  float* bands = config_.kind == FeatureKind::log_mel ? out : work + 2 * fft_size_;
  log_bands(work, bands);
  if (config_.kind != FeatureKind::log_mel) {
    const size_t count = config_.coefficients;
    std::fill_n(out, count, 0.0f);
    for (size_t n = 0; n < config_.bands; ++n)
      for (size_t k = 0; k < count; ++k) out[k] += cosines_[n * count + k] * bands[n];
  }
  for (size_t i = 0; i < config_.mean.size(); ++i)
    out[i] = (out[i] - config_.mean[i]) / config_.deviation[i];
}

// Windowed samples, zero-padded to the length of the transform.
void FeatureTables::prepare(const float* samples, float* work) const {
  const size_t length = window_.size();
  std::memcpy(work, samples, length * sizeof(float));
  std::fill(work + length, work + fft_size_, 0.0f);
  if (config_.kind != FeatureKind::deepspeech_mfcc) {
    double sum = 0;
    for (size_t i = 0; i < length; ++i) sum += work[i] *= kaldi_sample_scale;
    const auto offset = static_cast<float>(sum / static_cast<double>(length));
    for (size_t i = 0; i < length; ++i) work[i] -= offset;
    for (size_t i = length - 1; i > 0; --i) work[i] -= kaldi_preemphasis * work[i - 1];
    work[0] -= kaldi_preemphasis * work[0];
  }
  for (size_t i = 0; i < length; ++i) work[i] *= window_[i];
}

// Transforms fft_size / 2 complex values, whose real parts are the even samples and whose imaginary
// parts are the odd ones. The first two stages are one pass without products; then radix 2.
void FeatureTables::fft(const float* samples, float* real, float* imaginary) const {
  const size_t size = fft_size_ / 2;
  for (size_t i = 0; i < size; ++i) {
    real[i] = samples[2 * reversed_[i]];
    imaginary[i] = samples[2 * reversed_[i] + 1];
  }
  for (size_t i = 0; i < size; i += 4) {
    float* r = real + i;
    float* m = imaginary + i;
    const float r0 = r[0] + r[1], r1 = r[0] - r[1], r2 = r[2] + r[3], r3 = r[2] - r[3];
    const float m0 = m[0] + m[1], m1 = m[0] - m[1], m2 = m[2] + m[3], m3 = m[2] - m[3];
    r[0] = r0 + r2, m[0] = m0 + m2;
    r[1] = r1 + m3, m[1] = m1 - r3;
    r[2] = r0 - r2, m[2] = m0 - m2;
    r[3] = r1 - m3, m[3] = m1 + r3;
  }
  for (size_t half = 4; half < size; half *= 2) {
    const float* wr = stages_.real.data() + half - 4;
    const float* wm = stages_.imaginary.data() + half - 4;
    for (size_t start = 0; start < size; start += 2 * half) {
      float *ar = real + start, *am = imaginary + start;
      float *br = ar + half, *bm = am + half;
      for (size_t k = 0; k < half; ++k) {
        const float tr = br[k] * wr[k] - bm[k] * wm[k], tm = br[k] * wm[k] + bm[k] * wr[k];
        br[k] = ar[k] - tr, bm[k] = am[k] - tm;
        ar[k] += tr, am[k] += tm;
      }
    }
  }
}

// Replaces the samples by the squared magnitudes of bins 0 to fft_size / 2. The real samples were
// transformed as half as many complex ones. E and O, the transforms of the even and of the odd
// samples, are separated here: X[k] = E[k] + w^k O[k], X[half - k] = conj(E[k] - w^k O[k]).
void FeatureTables::power_spectrum(float* work) const {
  const size_t half = fft_size_ / 2;
  float *real = work + fft_size_, *imaginary = real + half;
  fft(work, real, imaginary);
  for (size_t k = 1; k <= half / 2; ++k) {
    const float ar = real[k], am = imaginary[k], br = real[half - k], bm = -imaginary[half - k];
    const float even_r = (ar + br) * 0.5f, even_m = (am + bm) * 0.5f;
    const float odd_r = (am - bm) * 0.5f, odd_m = (br - ar) * 0.5f;
    const float tr = odd_r * split_.real[k] - odd_m * split_.imaginary[k];
    const float tm = odd_r * split_.imaginary[k] + odd_m * split_.real[k];
    work[k] = (even_r + tr) * (even_r + tr) + (even_m + tm) * (even_m + tm);
    work[half - k] = (even_r - tr) * (even_r - tr) + (even_m - tm) * (even_m - tm);
  }
  const float sum = real[0] + imaginary[0], difference = real[0] - imaginary[0];
  work[0] = sum * sum;
  work[half] = difference * difference;
}

// TensorFlow's filters are applied to magnitudes, Kaldi's to powers.
void FeatureTables::log_bands(float* power, float* out) const {
  const bool tensorflow = config_.kind == FeatureKind::deepspeech_mfcc;
  if (tensorflow)
    for (size_t bin = 0; bin <= fft_size_ / 2; ++bin) power[bin] = std::sqrt(power[bin]);
  for (size_t band = 0; band < filters_.size(); ++band) {
    const Filter& filter = filters_[band];
    const float* bins = power + filter.first;
    float sum = 0;
    for (size_t i = 0; i < filter.weights.size(); ++i) sum += filter.weights[i] * bins[i];
    out[band] = std::log(std::max(sum, floors_[band]));
  }
}

FeatureStream::FeatureStream(std::shared_ptr<const FeatureTables> tables)
    : tables_(std::move(tables)),
      pending_(tables_->config().window()),
      work_(tables_->work_size()) {}

void FeatureStream::reset() { filled_ = skip_ = 0; }

size_t FeatureStream::push(std::span<const float>& samples, float* out, size_t max_frames) {
  const size_t hop = tables_->config().hop(), window = pending_.size();
  size_t frames = 0;
  while (frames < max_frames) {
    const size_t skipped = std::min(skip_, samples.size());
    skip_ -= skipped;
    samples = samples.subspan(skipped);
    const size_t taken = std::min(window - filled_, samples.size());
    std::copy_n(samples.data(), taken, pending_.data() + filled_);
    filled_ += taken;
    samples = samples.subspan(taken);
    if (filled_ < window) break;
    tables_->frame(pending_.data(), out + frames++ * tables_->config().size(), work_.data());
    const size_t kept = hop < window ? window - hop : 0;
    std::copy(pending_.end() - static_cast<ptrdiff_t>(kept), pending_.end(), pending_.begin());
    filled_ = kept;
    skip_ = hop > window ? hop - window : 0;
  }
  return frames;
}

}  // namespace tinyvox
