// AVX-512 with VNNI and VBMI (Ice Lake, Zen 4 and later): primitives only.
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/kernels.h"

namespace tinyvox {
namespace {

// Columns 0 to 3 and 4 to 7 of 16 rows, without sign.
struct Block {
  __m512i low, high;
};

struct Simd {
  // Columns 0 to 3 and 4 to 7 are summed apart, so that two sums are under way at once.
  struct Integers {
    __m512i low, high;
  };
  using Floats = __m512;
  using Table = __m512i;
  static constexpr size_t rows = 16, float_lanes = 16;
  static constexpr int32_t value_offset = 128;  // vpdpbusd takes weights without sign

  // Four activations, for every row.
  static __m512i four(const int8_t* x) {
    int32_t bits;
    __builtin_memcpy(&bits, x, 4);
    return _mm512_set1_epi32(bits);
  }

  // The entries four times over: a lookup heeds bits 0 to 5, and bits 4 and 5 then mean nothing.
  static Table load_table(const uint8_t* bytes) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
  }

  static Block unpack(const uint8_t* bytes, Table table) {
    const __m512i pairs = _mm512_loadu_si512(bytes);
    return {_mm512_permutexvar_epi8(pairs, table),
            _mm512_permutexvar_epi8(_mm512_srli_epi16(pairs, 4), table)};
  }
  static Block unpack_c3(const uint8_t* bytes, Table table) { return unpack(bytes, table); }
  static Block unpack_c4(const uint8_t* bytes, Table table) { return unpack(bytes, table); }

  // To flip the sign's bit is to add 128.
  static Block load(const int8_t* values) {
    const __m512i sign = _mm512_set1_epi8(-128);
    return {_mm512_xor_si512(_mm512_loadu_si512(values), sign),
            _mm512_xor_si512(_mm512_loadu_si512(values + 64), sign)};
  }

  static Integers dot(Integers sums, const Block& w, const int8_t* x) {
    return {_mm512_dpbusd_epi32(sums.low, w.low, four(x)),
            _mm512_dpbusd_epi32(sums.high, w.high, four(x + 4))};
  }

  static void store(Integers sums, int32_t offset, const float* scale, float frame_scale,
                    float* y) {
    const __m512i sum =
        _mm512_sub_epi32(_mm512_add_epi32(sums.low, sums.high), _mm512_set1_epi32(offset));
    const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_loadu_ps(scale));
    _mm512_storeu_ps(y, _mm512_mul_ps(scaled, _mm512_set1_ps(frame_scale)));
  }

  static Floats multiply_add(Floats sums, const float* w, const float* x) {
    return _mm512_fmadd_ps(_mm512_loadu_ps(w), _mm512_loadu_ps(x), sums);
  }

  static float total(Floats v) { return _mm512_reduce_add_ps(v); }
};

#include "kernels/float.inl"
#include "kernels/gemm.inl"

}  // namespace

const Kernels kernels_avx512 = {
    "avx512",    Simd::rows, gemm_c3_i8, gemm_c4_i8, gemm_i8_i8,   gemm_f32_f32,    quantize_i8,
    sigmoid_f32, tanh_f32,   lstm_f32,   gru_f32,    rnn_tanh_f32, log_softmax_f32,
};

}  // namespace tinyvox

#endif
