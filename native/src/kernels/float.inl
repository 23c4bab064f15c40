// Elementwise kernels, written once. The file of every instruction set includes this inside an
// anonymous namespace, and only its compiler flags differ: the loops are vectorized. No sum is
// reordered and no multiply-add is fused, so the results are equal to the last bit.

// 2^23 + 2^22: added to a float, it rounds it to an integer, ties to even, in the low bits.
constexpr float rounder = 12582912.0f;
constexpr int32_t rounder_bits = 0x4B400000;

inline int32_t bits_of(float x) { return __builtin_bit_cast(int32_t, x); }
inline float float_of(int32_t bits) { return __builtin_bit_cast(float, bits); }

// e^x with a relative error of at most 2e-7 up to |x| = 8, and |x| * 8e-8 beyond; x is clamped to
// [-most, most]. x = n ln 2 + r. A polynomial gives e^r: the best of its degree for the relative
// error on [-ln 2 / 2, ln 2 / 2]. Then n is added to the exponent; it is in the lowest bits of
// `shifted`, and the others are shifted out.
template <int most>
inline float exponential(float x) {
  static_assert(most <= 86);  // beyond that a result would not be a normal number
  constexpr float limit = most;
  x = x < limit ? x : limit;
  x = x > -limit ? x : -limit;
  const float shifted = x * 1.44269504088896341f + rounder;
  const float r = x - (shifted - rounder) * 0.69314718056f;
  float p = 8.3125016e-3f;
  p = p * r + 4.1890333e-2f;
  p = p * r + 1.6667115e-1f;
  p = p * r + 4.9999230e-1f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return float_of(static_cast<int32_t>(static_cast<uint32_t>(bits_of(p)) +
                                       (static_cast<uint32_t>(bits_of(shifted)) << 23)));
}

inline float sigmoid(float x) { return 1.0f / (1.0f + exponential<86>(-x)); }
inline float hyperbolic_tangent(float x) {
  return 1.0f - 2.0f / (exponential<86>(2.0f * x) + 1.0f);
}

void sigmoid_f32(float* x, size_t size) {
  for (size_t i = 0; i < size; ++i) x[i] = sigmoid(x[i]);
}

void tanh_f32(float* x, size_t size) {
  for (size_t i = 0; i < size; ++i) x[i] = hyperbolic_tangent(x[i]);
}

// The limit of e^x for gates: beyond it a sigmoid is within 1e-12 of 0 or 1. The product of three
// such factors and a cell of up to 1e14 does not overflow, so the gates are multiplied first and
// divided once: divisions take most of the time.
inline float gate_exponential(float x) { return exponential<28>(x); }

// One exponential at a time over short runs: such loops keep a processor busier than one long
// chain.
constexpr size_t run_length = 64;

inline void exponentials(float factor, const float* x, const float* h, size_t size, float* to) {
  for (size_t i = 0; i < size; ++i) to[i] = gate_exponential(factor * (x[i] + h[i]));
}

void lstm_f32(const float* __restrict x, const float* __restrict h, size_t hidden,
              float* __restrict cell, float* __restrict state) {
  float in[run_length], forget[run_length], fresh[run_length], out[run_length];
  for (size_t start = 0; start < hidden; start += run_length) {
    const size_t size = hidden - start < run_length ? hidden - start : run_length;
    exponentials(-1.0f, x + start, h + start, size, in);
    exponentials(-1.0f, x + hidden + start, h + hidden + start, size, forget);
    exponentials(2.0f, x + 2 * hidden + start, h + 2 * hidden + start, size, fresh);
    exponentials(-1.0f, x + 3 * hidden + start, h + 3 * hidden + start, size, out);
    float* kept = cell + start;
    // c / (1 + e^-f) + tanh(g) / (1 + e^-i), tanh(g) = (e^2g - 1) / (e^2g + 1)
    for (size_t i = 0; i < size; ++i) {
      const float added = (1.0f + in[i]) * (fresh[i] + 1.0f), forgot = 1.0f + forget[i];
      kept[i] = (kept[i] * added + (fresh[i] - 1.0f) * forgot) / (added * forgot);
    }
    for (size_t i = 0; i < size; ++i) {
      const float told = gate_exponential(2.0f * kept[i]);
      state[start + i] = (told - 1.0f) / ((1.0f + out[i]) * (told + 1.0f));
    }
  }
}

void gru_f32(const float* __restrict x, const float* __restrict h, const float* __restrict bias_hn,
             size_t hidden, float* __restrict state) {
  const float *xz = x + hidden, *xn = xz + hidden, *hz = h + hidden, *hn = hz + hidden;
  for (size_t i = 0; i < hidden; ++i) {
    const float reset = 1.0f / (1.0f + gate_exponential(-(x[i] + h[i])));
    const float update = gate_exponential(-(xz[i] + hz[i]));
    const float fresh = gate_exponential(2.0f * (xn[i] + reset * (hn[i] + bias_hn[i])));
    // (1 - z) n + z s with z = 1 / (1 + e^-z)
    state[i] =
        (update * (fresh - 1.0f) + state[i] * (fresh + 1.0f)) / ((1.0f + update) * (fresh + 1.0f));
  }
}

void rnn_tanh_f32(const float* __restrict x, const float* __restrict h, size_t hidden,
                  float* __restrict state) {
  for (size_t i = 0; i < hidden; ++i) state[i] = hyperbolic_tangent(x[i] + h[i]);
}

void log_softmax_f32(float* x, size_t size) {
  float most = x[0], sum = 0;
  for (size_t i = 1; i < size; ++i) most = x[i] > most ? x[i] : most;
  for (size_t i = 0; i < size; ++i) sum += exponential<86>(x[i] - most);
  const float total = most + __builtin_logf(sum);
  for (size_t i = 0; i < size; ++i) x[i] -= total;
}

// Compares bit patterns: as integers they have the same order as non-negative floats. Weights of a
// file may be so large that a layer before overflows: a frame with infinity or NaN becomes zeros.
void quantize_i8(const float* __restrict x, size_t columns, size_t stride,
                 int8_t* __restrict values, float* scale, int32_t* sum) {
  int32_t most = 0;
  uint32_t total = 0;
  for (size_t i = 0; i < columns; ++i) {
    const int32_t magnitude = bits_of(x[i]) & 0x7FFFFFFF;
    most = magnitude > most ? magnitude : most;
  }
  constexpr int32_t infinity = 0x7F800000;
  if (most >= infinity) {
    for (size_t i = 0; i < stride; ++i) values[i] = 0;
    *scale = 0.0f;
    *sum = 0;
    return;
  }
  const float largest = float_of(most);
  // A frame of subnormal values counts as silence: 127 / largest would overflow.
  const float inverse = largest > 1e-35f ? 127.0f / largest : 0.0f;
  for (size_t i = 0; i < columns; ++i) {
    const int32_t value = bits_of(x[i] * inverse + rounder) - rounder_bits;
    total += static_cast<uint32_t>(value);
    values[i] = static_cast<int8_t>(value);
  }
  for (size_t i = columns; i < stride; ++i) values[i] = 0;
  *scale = largest / 127.0f;
  *sum = static_cast<int32_t>(total);
}
