// SSSE3: Core 2, Atom, Bulldozer and later.
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/kernels.h"

namespace tinyvox {
namespace {

struct Vector {
  using Integers = __m128i;
  using Floats = __m128;

  static constexpr bool has_quads = false;
  static Integers add_quads(Integers sums, Integers, Integers) { return sums; }  // not called

  static Integers load(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
  static Integers broadcast_4(int32_t bytes) { return _mm_set1_epi32(bytes); }
  static Integers broadcast_16(const uint8_t* p) { return load(p); }
  static Integers both(Integers a, Integers b) { return _mm_and_si128(a, b); }
  static Integers either(Integers a, Integers b) { return _mm_or_si128(a, b); }
  static Integers shift_right(Integers a, int count) { return _mm_srli_epi16(a, count); }
  static Integers find(Integers table, Integers at) { return _mm_shuffle_epi8(table, at); }
  static Integers add_16(Integers a, Integers b) { return _mm_add_epi16(a, b); }
  static Integers add_32(Integers a, Integers b) { return _mm_add_epi32(a, b); }
  static Integers subtract_32(Integers a, Integers b) { return _mm_sub_epi32(a, b); }
  static Integers pairs(Integers w, Integers x) { return _mm_maddubs_epi16(w, x); }
  static Integers add_pairs(Integers sums, Integers pairs) {
    return _mm_add_epi32(sums, _mm_madd_epi16(pairs, _mm_set1_epi16(1)));
  }
  static Integers magnitude(Integers w) { return _mm_abs_epi8(w); }
  static Integers with_sign(Integers x, Integers w) { return _mm_sign_epi8(x, w); }

  static Floats convert(Integers a) { return _mm_cvtepi32_ps(a); }
  static Floats load_floats(const float* p) { return _mm_loadu_ps(p); }
  static Floats broadcast_float(float a) { return _mm_set1_ps(a); }
  static void store(Floats a, float* p) { _mm_storeu_ps(p, a); }
  static Floats multiply(Floats a, Floats b) { return _mm_mul_ps(a, b); }
  static Floats add_floats(Floats a, Floats b) { return _mm_add_ps(a, b); }
  static Floats larger(Floats a, Floats b) { return _mm_max_ps(a, b); }
  static Floats smaller(Floats a, Floats b) { return _mm_min_ps(a, b); }

  static Floats multiply_add(Floats sums, const float* w, const float* x) {
    return _mm_add_ps(sums, _mm_mul_ps(_mm_loadu_ps(w), _mm_loadu_ps(x)));
  }

  static float total(Floats v) {
    v = _mm_add_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps(v, v, 1)));
  }
};

#include "kernels/float.inl"
#include "kernels/x86.inl"

}  // namespace

constinit const Kernels kernels_ssse3 =
    all_kernels<Chosen{.c6 = false, .u6 = true, .u7 = true}>("ssse3", 0);

}  // namespace tinyvox

#endif
