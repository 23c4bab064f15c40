// AVX2 and FMA: primitives only.
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/kernels.h"

namespace tinyvox {
namespace {

struct Simd {
  using Integers = __m256i;
  using Floats = __m256;
  using Table = __m256i;
  struct Row4 {
    __m256i low, high;  // columns 0 to 31 and 32 to 63, 7 bits without sign
  };
  struct Row8 {
    __m256i low, high;  // signed
  };
  static constexpr size_t float_lanes = 8;

  static __m256i load_bytes(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
  }

  static Table load_table(const uint8_t* bytes) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
  }

  static Row4 unpack(const uint8_t* bytes, Table table) {
    const __m256i pairs = load_bytes(bytes), nibble = _mm256_set1_epi8(15);
    const __m256i low = _mm256_and_si256(pairs, nibble);
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(pairs, 4), nibble);
    return {_mm256_shuffle_epi8(table, low), _mm256_shuffle_epi8(table, high)};
  }

  static Row8 load(const int8_t* values) { return {load_bytes(values), load_bytes(values + 32)}; }

  // Pairs of int16, then of int32. The int16 of both halves could overflow if added first.
  static __m256i widen(__m256i low, __m256i high) {
    const __m256i ones = _mm256_set1_epi16(1);
    return _mm256_add_epi32(_mm256_madd_epi16(low, ones), _mm256_madd_epi16(high, ones));
  }

  static Integers dot(Integers sums, const Row4& w, const int8_t* x) {
    const __m256i low = _mm256_maddubs_epi16(w.low, load_bytes(x));
    const __m256i high = _mm256_maddubs_epi16(w.high, load_bytes(x + 32));
    return _mm256_add_epi32(sums, widen(low, high));
  }

  // vpmaddubsw takes one factor without sign: |w| times x with the sign of w.
  static __m256i products(__m256i w, const int8_t* x) {
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(load_bytes(x), w));
  }

  static Integers dot(Integers sums, const Row8& w, const int8_t* x) {
    return _mm256_add_epi32(sums, widen(products(w.low, x), products(w.high, x + 32)));
  }

  static int32_t total(Integers v) {
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xB1)));
  }

  static Floats multiply_add(Floats sums, const float* w, const float* x) {
    return _mm256_fmadd_ps(_mm256_loadu_ps(w), _mm256_loadu_ps(x), sums);
  }

  static float total(Floats v) {
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_shuffle_ps(sum, sum, 1)));
  }
};

#include "kernels/float.inl"
#include "kernels/gemm.inl"

}  // namespace

const Kernels kernels_avx2 = {
    "avx2",    gemm_c4_i8, gemm_i8_i8, gemm_f32_f32, quantize_i8,     sigmoid_f32,
    tanh_f32,  lstm_f32,   gru_f32,    rnn_tanh_f32, log_softmax_f32,
};

}  // namespace tinyvox

#endif
