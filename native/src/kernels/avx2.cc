// AVX2 and FMA: the primitives only.
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/kernels.h"

namespace tinyvox {
namespace {

struct Simd {
  using Integers = __m256i;
  using Floats = __m256;
  static constexpr size_t rows = 8, float_lanes = 8;
  static constexpr int sums = 8;

  // The entries of two quads: unsigned of 6 and of 7 bits, and signed.
  struct Entries {
    __m256i first, second;
  };
  struct Unsigned6 : Entries {};
  struct Unsigned7 : Entries {};
  struct Signed : Entries {};

  template <Form form>
  struct Lookup {
    __m256i table;

    Lookup() = default;
    explicit Lookup(const uint8_t* bytes) {
      if constexpr (form == Form::r2) table = load(bytes);
      if constexpr (form != Form::r2 && form != Form::i8)
        table =
            _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
    }
  };

  static __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

  // The codes that begin at bit `place`. The shift also brings in bits of the byte beside.
  template <unsigned bits>
  static __m256i at(__m256i codes, int place) {
    return _mm256_and_si256(_mm256_srli_epi16(codes, place), _mm256_set1_epi8((1 << bits) - 1));
  }

  // The code is in bits 0 and 1. The bits above say which of the four rows of a lane's table.
  static __m256i with_row(__m256i codes) {
    const __m256i row = _mm256_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12,  //
                                         0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12);
    return _mm256_or_si256(codes, row);
  }

  template <Form form, int i>
  static auto unpack(const uint8_t* chunk, const Lookup<form>& lookup) {
    constexpr unsigned bits = packing_of(form).bits;
    const __m256i codes = load(chunk);
    if constexpr (form == Form::i8) {
      return Signed{{codes, load(chunk + 32)}};
    } else {
      __m256i first = at<bits>(codes, 2 * i * bits), second = at<bits>(codes, (2 * i + 1) * bits);
      if constexpr (form == Form::r2) first = with_row(first), second = with_row(second);
      const Entries found{_mm256_shuffle_epi8(lookup.table, first),
                          _mm256_shuffle_epi8(lookup.table, second)};
      if constexpr (form == Form::r2)
        return Signed{found};
      else if constexpr (form == Form::c4)
        return Unsigned7{found};
      else
        return Unsigned6{found};
    }
  }

  // Four activations, repeated for every row.
  static __m256i four(const int8_t* x) {
    int32_t bits;
    __builtin_memcpy(&bits, x, 4);
    return _mm256_set1_epi32(bits);
  }

  static __m256i widen(__m256i sums, __m256i pairs) {
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }

  // Two pairs of products with 6-bit entries fit int16 (kernels.h), and one pair with 7-bit
  // entries.
  static void dot(Integers& sums, Integers&, const Unsigned6& w, const int8_t* x) {
    const __m256i first = _mm256_maddubs_epi16(w.first, four(x));
    sums = widen(sums, _mm256_add_epi16(first, _mm256_maddubs_epi16(w.second, four(x + 4))));
  }

  static void dot(Integers& sums, Integers& more, const Unsigned7& w, const int8_t* x) {
    sums = widen(sums, _mm256_maddubs_epi16(w.first, four(x)));
    more = widen(more, _mm256_maddubs_epi16(w.second, four(x + 4)));
  }

  // vpmaddubsw needs one unsigned factor: it multiplies |w| by x with the sign of w.
  static __m256i products(__m256i w, __m256i x) {
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
  }

  static void dot(Integers& sums, Integers& more, const Signed& w, const int8_t* x) {
    sums = widen(sums, products(w.first, four(x)));
    more = widen(more, products(w.second, four(x + 4)));
  }

  static Integers add(Integers a, Integers b) { return _mm256_add_epi32(a, b); }

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
#include "kernels/lowbit.inl"

}  // namespace

// A lookup among 64 entries would take four lookups and three selections, so i8 replaces c6.
constinit const Kernels kernels_avx2 = all_kernels<false>("avx2", 0);

}  // namespace tinyvox

#endif
