// AVX2 and FMA (Haswell, Zen and later), and the same with sums of four products: AVX-VNNI (Alder
// Lake, Zen 5 and later). One file for both, so that they share the elementwise kernels.
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/kernels.h"

namespace tinyvox {
namespace {

#include "kernels/float.inl"

struct Registers {
  using Integers = __m256i;
  using Floats = __m256;

  static Integers load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static Integers broadcast_4(int32_t bytes) { return _mm256_set1_epi32(bytes); }
  static Integers broadcast_16(const uint8_t* p) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Integers both(Integers a, Integers b) { return _mm256_and_si256(a, b); }
  static Integers either(Integers a, Integers b) { return _mm256_or_si256(a, b); }
  static Integers shift_right(Integers a, int count) { return _mm256_srli_epi16(a, count); }
  static Integers find(Integers table, Integers at) { return _mm256_shuffle_epi8(table, at); }
  static Integers add_16(Integers a, Integers b) { return _mm256_add_epi16(a, b); }
  static Integers add_32(Integers a, Integers b) { return _mm256_add_epi32(a, b); }
  static Integers subtract_32(Integers a, Integers b) { return _mm256_sub_epi32(a, b); }
  static Integers pairs(Integers w, Integers x) { return _mm256_maddubs_epi16(w, x); }
  static Integers add_pairs(Integers sums, Integers pairs) {
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static Integers magnitude(Integers w) { return _mm256_abs_epi8(w); }
  static Integers with_sign(Integers x, Integers w) { return _mm256_sign_epi8(x, w); }

  static Floats convert(Integers a) { return _mm256_cvtepi32_ps(a); }
  static Floats load_floats(const float* p) { return _mm256_loadu_ps(p); }
  static Floats broadcast_float(float a) { return _mm256_set1_ps(a); }
  static void store(Floats a, float* p) { _mm256_storeu_ps(p, a); }
  static Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static Floats add_floats(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static Floats larger(Floats a, Floats b) { return _mm256_max_ps(a, b); }
  static Floats smaller(Floats a, Floats b) { return _mm256_min_ps(a, b); }

  static Floats multiply_add(Floats sums, const float* w, const float* x) {
    return _mm256_fmadd_ps(_mm256_loadu_ps(w), _mm256_loadu_ps(x), sums);
  }

  static float total(Floats v) {
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_shuffle_ps(sum, sum, 1)));
  }
};

namespace pairs {

struct Vector : Registers {
  static constexpr bool has_quads = false;
  static Integers add_quads(Integers sums, Integers, Integers) { return sums; }  // not called
};

#include "kernels/x86.inl"

}  // namespace pairs

namespace quads {

struct Vector : Registers {
  static constexpr bool has_quads = true;

  // Inline assembly: the rest of the file may not have this instruction, and GCC 12 would copy the
  // sums.
  static Integers add_quads(Integers sums, Integers w, Integers x) {
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sums) : "x"(w), "x"(x));
    return sums;
  }
};

#include "kernels/x86.inl"

}  // namespace quads
}  // namespace

// A lookup among 64 entries would take four lookups and three selections, so there is no c6.
constinit const Kernels kernels_avx2 =
    pairs::all_kernels<pairs::Chosen{.c6 = false, .u6 = true, .u7 = true}>("avx2", 0);

// vpdpbusd needs unsigned weights, hence an offset of 128, with which bytes of any range are as
// fast as those of 6 and 7 bits.
constinit const Kernels kernels_avxvnni =
    quads::all_kernels<quads::Chosen{.c6 = false, .u6 = false, .u7 = false}>("avxvnni", 128);

}  // namespace tinyvox

#endif
