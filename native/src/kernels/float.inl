// Elementwise kernels, written once. Included inside an anonymous namespace by every instruction
// set's file, whose compiler flags alone make the difference: the loops vectorise, and as no sum is
// reordered and nothing contracted, the results are the same to the last bit.

// 2^23 + 2^22: adding it leaves a float rounded to an integer in the low bits, ties to even.
constexpr float rounder = 12582912.0f;
constexpr int32_t rounder_bits = 0x4B400000;

inline int32_t bits_of(float x) { return __builtin_bit_cast(int32_t, x); }
inline float float_of(int32_t bits) { return __builtin_bit_cast(float, bits); }

// e^x, relative error below 2e-7, for finite x; saturates outside [-87, 88]. S. Moshier, Cephes,
// expf: x = n ln 2 + r, then a polynomial in r.
inline float exponential(float x) {
  x = x < 88.0f ? x : 88.0f;
  x = x > -87.0f ? x : -87.0f;
  const float shifted = x * 1.44269504088896341f + rounder;
  const float n = shifted - rounder;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float power = float_of(
      static_cast<int32_t>(static_cast<uint32_t>(bits_of(shifted) - rounder_bits + 127) << 23));
  return (p * r * r + r + 1.0f) * power;
}

inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }
inline float hyperbolic_tangent(float x) { return 1.0f - 2.0f / (exponential(2.0f * x) + 1.0f); }

void sigmoid_f32(float* x, size_t size) {
  for (size_t i = 0; i < size; ++i) x[i] = sigmoid(x[i]);
}

void tanh_f32(float* x, size_t size) {
  for (size_t i = 0; i < size; ++i) x[i] = hyperbolic_tangent(x[i]);
}

// A gate at a time over short runs: loops with one exponential keep a processor busier than one
// long chain of five.
constexpr size_t run_length = 64;

inline void sigmoid_sum(const float* x, const float* h, size_t size, float* gate) {
  for (size_t i = 0; i < size; ++i) gate[i] = sigmoid(x[i] + h[i]);
}

inline void tanh_sum(const float* x, const float* h, size_t size, float* gate) {
  for (size_t i = 0; i < size; ++i) gate[i] = hyperbolic_tangent(x[i] + h[i]);
}

void lstm_f32(const float* __restrict x, const float* __restrict h, size_t hidden,
              float* __restrict cell, float* __restrict state) {
  float in[run_length], forget[run_length], fresh[run_length], out[run_length];
  for (size_t start = 0; start < hidden; start += run_length) {
    const size_t size = hidden - start < run_length ? hidden - start : run_length;
    sigmoid_sum(x + start, h + start, size, in);
    sigmoid_sum(x + hidden + start, h + hidden + start, size, forget);
    tanh_sum(x + 2 * hidden + start, h + 2 * hidden + start, size, fresh);
    sigmoid_sum(x + 3 * hidden + start, h + 3 * hidden + start, size, out);
    float* kept = cell + start;
    for (size_t i = 0; i < size; ++i) kept[i] = forget[i] * kept[i] + in[i] * fresh[i];
    for (size_t i = 0; i < size; ++i) state[start + i] = out[i] * hyperbolic_tangent(kept[i]);
  }
}

void gru_f32(const float* __restrict x, const float* __restrict h, const float* __restrict bias_hn,
             size_t hidden, float* __restrict state) {
  const float *xz = x + hidden, *xn = xz + hidden, *hz = h + hidden, *hn = hz + hidden;
  for (size_t i = 0; i < hidden; ++i) {
    const float reset = sigmoid(x[i] + h[i]), update = sigmoid(xz[i] + hz[i]);
    const float fresh = hyperbolic_tangent(xn[i] + reset * (hn[i] + bias_hn[i]));
    state[i] = (1.0f - update) * fresh + update * state[i];
  }
}

void rnn_tanh_f32(const float* __restrict x, const float* __restrict h, size_t hidden,
                  float* __restrict state) {
  for (size_t i = 0; i < hidden; ++i) state[i] = hyperbolic_tangent(x[i] + h[i]);
}

void log_softmax_f32(float* x, size_t size) {
  float most = x[0], sum = 0;
  for (size_t i = 1; i < size; ++i) most = x[i] > most ? x[i] : most;
  for (size_t i = 0; i < size; ++i) sum += exponential(x[i] - most);
  const float total = most + __builtin_logf(sum);
  for (size_t i = 0; i < size; ++i) x[i] -= total;
}

// The largest magnitude is found among bit patterns, which order non-negative floats as integers.
void quantize_i8(const float* __restrict x, size_t columns, size_t stride,
                 int8_t* __restrict values, float* scale, int32_t* sum) {
  int32_t most = 0, total = 0;
  for (size_t i = 0; i < columns; ++i) {
    const int32_t magnitude = bits_of(x[i]) & 0x7FFFFFFF;
    most = magnitude > most ? magnitude : most;
  }
  const float largest = float_of(most);
  // A frame of nothing but denormals counts as silence: 127 / largest would overflow.
  const float inverse = largest > 1e-35f ? 127.0f / largest : 0.0f;
  for (size_t i = 0; i < columns; ++i) {
    const int32_t value = bits_of(x[i] * inverse + rounder) - rounder_bits;
    total += value;
    values[i] = static_cast<int8_t>(value);
  }
  for (size_t i = columns; i < stride; ++i) values[i] = 0;
  *scale = largest / 127.0f;
  *sum = total;
}
