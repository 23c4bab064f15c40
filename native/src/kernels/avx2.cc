// AVX2 and FMA: primitives only.
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/kernels.h"

namespace tinyvox {
namespace {

// Columns 0 to 3 and 4 to 7 of 8 rows: weights of 6 and of 7 bits without sign, and with sign.
struct Block {
  __m256i low, high;
};
struct Unsigned6 : Block {};
struct Unsigned7 : Block {};
struct Signed : Block {};

struct Simd {
  using Integers = __m256i;
  using Floats = __m256;
  using Table = __m256i;
  static constexpr size_t rows = 8, float_lanes = 8;
  static constexpr int32_t value_offset = 0;

  static __m256i load_bytes(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
  }

  // Four activations, for every row.
  static __m256i four(const int8_t* x) {
    int32_t bits;
    __builtin_memcpy(&bits, x, 4);
    return _mm256_set1_epi32(bits);
  }

  static Table load_table(const uint8_t* bytes) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
  }

  // A lookup heeds bits 0 to 3 and bit 7. A shift brings in bits of the neighbour above bit 3.
  static Unsigned6 unpack_c3(const uint8_t* bytes, Table table) {
    const __m256i pairs = load_bytes(bytes);
    return {{_mm256_shuffle_epi8(table, pairs),
             _mm256_shuffle_epi8(table, _mm256_srli_epi16(pairs, 4))}};
  }

  static Unsigned7 unpack_c4(const uint8_t* bytes, Table table) {
    const __m256i pairs = load_bytes(bytes), nibble = _mm256_set1_epi8(15);
    const __m256i low = _mm256_and_si256(pairs, nibble);
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(pairs, 4), nibble);
    return {{_mm256_shuffle_epi8(table, low), _mm256_shuffle_epi8(table, high)}};
  }

  static Signed load(const int8_t* values) {
    return {{load_bytes(values), load_bytes(values + 32)}};
  }

  static __m256i widen(__m256i sums, __m256i pairs) {
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }

  // Two pairs of 6-bit weights fit int16 (kernels.h); of 7 bits, one.
  static Integers dot(Integers sums, const Unsigned6& w, const int8_t* x) {
    const __m256i low = _mm256_maddubs_epi16(w.low, four(x));
    return widen(sums, _mm256_add_epi16(low, _mm256_maddubs_epi16(w.high, four(x + 4))));
  }

  static Integers dot(Integers sums, const Unsigned7& w, const int8_t* x) {
    sums = widen(sums, _mm256_maddubs_epi16(w.low, four(x)));
    return widen(sums, _mm256_maddubs_epi16(w.high, four(x + 4)));
  }

  // vpmaddubsw takes one factor without sign: |w| times x with the sign of w.
  static __m256i products(__m256i w, __m256i x) {
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
  }

  static Integers dot(Integers sums, const Signed& w, const int8_t* x) {
    sums = widen(sums, products(w.low, four(x)));
    return widen(sums, products(w.high, four(x + 4)));
  }

  static void store(Integers sums, int32_t offset, const float* scale, float frame_scale,
                    float* y) {
    sums = _mm256_sub_epi32(sums, _mm256_set1_epi32(offset));
    const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_loadu_ps(scale));
    _mm256_storeu_ps(y, _mm256_mul_ps(scaled, _mm256_set1_ps(frame_scale)));
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
    "avx2",      Simd::rows, gemm_c3_i8, gemm_c4_i8, gemm_i8_i8,   gemm_f32_f32,    quantize_i8,
    sigmoid_f32, tanh_f32,   lstm_f32,   gru_f32,    rnn_tanh_f32, log_softmax_f32,
};

}  // namespace tinyvox

#endif
