// AVX-512 with VNNI and VBMI (Ice Lake, Zen 4 and later), and the same with AMX (Sapphire Rapids
// and later). One file for both, so that they share all but the products of many frames.
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/kernels.h"

namespace tinyvox {
namespace {

struct Simd {
  using Integers = __m512i;
  using Floats = __m512;
  static constexpr size_t rows = 16, float_lanes = 16;
  static constexpr int sums = 16;
  template <Form>
  static constexpr size_t run = 1;

  // The entries of two quads, unsigned.
  struct Entries {
    __m512i first, second;
  };

  // A lookup uses bits 0 to 5 of an index. If they hold more than the wanted code, the table
  // repeats its entries for all values of the other bits. Each place of a code in a byte has a
  // table.
  template <Form form>
  struct Lookup {
    static constexpr unsigned bits = packing_of(form).bits;
    static constexpr int places = form == Form::c1   ? 6
                                  : form == Form::c2 ? 3
                                  : form == Form::c3 ? 2
                                                     : 1;
    __m512i tables[places];

    Lookup() = default;
    explicit Lookup(const uint8_t* bytes) {
      if constexpr (!has_table(form)) return;
      const __m512i table = _mm512_loadu_si512(bytes), mask = _mm512_set1_epi8((1 << bits) - 1);
      if constexpr (form == Form::r2 || form == Form::c6) {
        tables[0] = table;
        return;
      }
      for (int place = 0; place < places; ++place) {
        const __m512i codes = _mm512_srl_epi16(counting(), _mm_cvtsi32_si128(place * bits));
        tables[place] = _mm512_permutexvar_epi8(_mm512_and_si512(codes, mask), table);
      }
    }
  };

  static __m512i counting() {
    alignas(64) static constexpr uint8_t bytes[64] = {
        0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
        22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
        44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
    return _mm512_load_si512(bytes);
  }

  static __m512i find(__m512i codes, __m512i table) {
    return _mm512_permutexvar_epi8(codes, table);
  }

  // Bits of `a` where the mask has ones, of `b` elsewhere.
  static __m512i merge(int mask, __m512i a, __m512i b) {
    return _mm512_ternarylogic_epi64(_mm512_set1_epi8(static_cast<char>(mask)), a, b, 0xCA);
  }

  // The code is in bits 0 and 1, the row in the bits above.
  static __m512i with_row(__m512i codes) {
    const __m512i row = _mm512_and_si512(counting(), _mm512_set1_epi8(0x3C));
    return merge(3, codes, row);
  }

  // The shift also brings in bits of the byte beside, which the lookup ignores.
  template <Form form, int i>
  static Entries unpack(const uint8_t* chunk, const Lookup<form>& lookup) {
    const auto& t = lookup.tables;
    const auto load = [&](int index) { return _mm512_loadu_si512(chunk + 64 * index); };
    const __m512i codes = load(0);
    if constexpr (form == Form::c1) {
      if constexpr (i < 3) return {find(codes, t[2 * i]), find(codes, t[2 * i + 1])};
      const __m512i last = _mm512_srli_epi16(codes, 2);
      return {find(last, t[4]), find(last, t[5])};
    } else if constexpr (form == Form::c2) {
      if constexpr (i == 0) return {find(codes, t[0]), find(codes, t[1])};
      return {find(codes, t[2]), find(_mm512_srli_epi16(codes, 2), t[2])};
    } else if constexpr (form == Form::r2) {
      return {find(with_row(_mm512_srli_epi16(codes, 4 * i)), t[0]),
              find(with_row(_mm512_srli_epi16(codes, 4 * i + 2)), t[0])};
    } else if constexpr (form == Form::c3) {
      return {find(codes, t[0]), find(codes, t[1])};
    } else if constexpr (form == Form::c4) {
      return {find(codes, t[0]), find(_mm512_srli_epi16(codes, 4), t[0])};
    } else if constexpr (form == Form::c6) {
      if constexpr (i == 0) return {find(codes, t[0]), find(load(1), t[0])};
      const __m512i third = load(2);
      const __m512i low = merge(3, _mm512_srli_epi16(codes, 6), _mm512_srli_epi16(load(1), 4));
      return {find(third, t[0]), find(merge(15, low, _mm512_srli_epi16(third, 2)), t[0])};
    } else if constexpr (form == Form::g4) {
      const __m512i mask = _mm512_set1_epi8(15);
      return {_mm512_and_si512(codes, mask), _mm512_and_si512(_mm512_srli_epi16(codes, 4), mask)};
    } else {
      return {codes, load(1)};
    }
  }

  // Four activations, repeated for every row.
  static __m512i four(const int8_t* x) {
    int32_t bits;
    __builtin_memcpy(&bits, x, 4);
    return _mm512_set1_epi32(bits);
  }

  static void dot(Integers& sums, Integers& more, const Entries& w, const int8_t* x) {
    sums = with_products(sums, w.first, four(x));
    more = with_products(more, w.second, four(x + 4));
  }

  // Inline assembly: for _mm512_dpbusd_epi32, GCC 12 copies the sums twice, which costs 10% of the
  // speed.
  static Integers with_products(Integers sums, __m512i w, __m512i x) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(w), "v"(x));
    return sums;
  }

  static Integers add(Integers a, Integers b) { return _mm512_add_epi32(a, b); }

  static Integers widen(Integers sums, Integers more) { return add(sums, more); }

  static Floats scaled(Integers sums, int32_t offset, const float* scale, float frame_scale) {
    const __m512i sum = _mm512_sub_epi32(sums, _mm512_set1_epi32(offset));
    const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_loadu_ps(scale));
    return _mm512_mul_ps(scaled, _mm512_set1_ps(frame_scale));
  }

  // The sums stand last: where one is NaN, the result is the operand that stands last.
  static Floats ended(Floats products, const End& end, size_t row) {
    const __m512 sums = _mm512_add_ps(products, _mm512_loadu_ps(end.bias + row));
    return _mm512_min_ps(_mm512_set1_ps(end.most), _mm512_max_ps(_mm512_set1_ps(end.least), sums));
  }

  static void store(Floats values, float* y) { _mm512_storeu_ps(y, values); }

  static Floats multiply_add(Floats sums, const float* w, const float* x) {
    return _mm512_fmadd_ps(_mm512_loadu_ps(w), _mm512_loadu_ps(x), sums);
  }

  static float total(Floats v) { return _mm512_reduce_add_ps(v); }
};

#include "kernels/float.inl"
#include "kernels/lowbit.inl"
#include "kernels/tiles.inl"

// vpdpbusd needs unsigned weights, hence an offset of 128.
constexpr Kernels all = all_kernels<Chosen{.c6 = true, .u6 = false, .u7 = false}>("avx512", 128);

}  // namespace

constinit const Kernels kernels_avx512 = all, kernels_amx = with_tiles(all);

}  // namespace tinyvox

#endif
