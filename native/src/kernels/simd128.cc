// WebAssembly's SIMD128: the primitives only. It has no products of bytes, but pairs of products of
// 16 bits: the columns of a quad are taken apart into the even and the odd ones, as numbers of 16
// bits.
#if defined(__wasm_simd128__)

#include <wasm_simd128.h>

#include "kernels/kernels.h"

namespace tinyvox {
namespace {

struct Simd {
  struct Integers {
    v128_t low, high;  // of four rows
  };
  using Floats = v128_t;
  static constexpr size_t rows = 8, float_lanes = 4;
  static constexpr int sums = 4;
  // There are sums enough, so none is kept in two parts: the whole product is one run.
  template <Form>
  static constexpr size_t run = max_columns;

  // Columns 0 and 2 of a quad, and columns 1 and 3, for each row.
  struct Wide {
    v128_t even, odd;
  };
  struct Entries {
    Wide first[2], second[2];  // of the two quads, for four rows each
  };

  template <Form form>
  struct Lookup {
    v128_t tables[2];

    Lookup() = default;
    explicit Lookup(const uint8_t* bytes) {
      if constexpr (has_table(form))
        tables[0] = wasm_v128_load(bytes),
        tables[1] = form == Form::r2 ? wasm_v128_load(bytes + 16) : tables[0];
    }
  };

  // The codes that begin at bit `place`.
  template <unsigned bits>
  static v128_t at(v128_t codes, unsigned place) {
    const v128_t moved = place ? wasm_u8x16_shr(codes, place) : codes;
    return place + bits == 8 ? moved
                             : wasm_v128_and(moved, wasm_i8x16_const_splat((1 << bits) - 1));
  }

  // The code is in bits 0 and 1, the row in the bits above.
  static v128_t with_row(v128_t codes) {
    return wasm_v128_or(codes,
                        wasm_i8x16_const(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12));
  }

  template <bool has_sign>
  static Wide widened(v128_t bytes) {
    if constexpr (has_sign)
      return {wasm_i16x8_shr(wasm_i16x8_shl(bytes, 8), 8), wasm_i16x8_shr(bytes, 8)};
    else
      return {wasm_v128_and(bytes, wasm_i16x8_const_splat(0xFF)), wasm_u16x8_shr(bytes, 8)};
  }

  // The entries of a quad, whose codes begin at bit `place`.
  template <Form form, unsigned place>
  static Wide found(v128_t codes, v128_t table) {
    constexpr Packing packing = packing_of(form);
    constexpr bool has_sign = packing.entry_bits == 8;
    if constexpr (packing.bits == 8) return widened<has_sign>(codes);
    v128_t indices = at<packing.bits>(codes, place);
    if constexpr (!has_table(form)) return widened<has_sign>(indices);
    if constexpr (form == Form::r2) indices = with_row(indices);
    return widened<has_sign>(wasm_i8x16_swizzle(table, indices));
  }

  template <Form form, int i>
  static Entries unpack(const uint8_t* chunk, const Lookup<form>& lookup) {
    constexpr unsigned bits = packing_of(form).bits;
    // Entries of 8 bits have a register for each quad.
    constexpr size_t next = bits == 8 ? 32 : 0;
    constexpr unsigned place = bits == 8 ? 0 : 2 * i * bits,
                       next_place = bits == 8 ? 0 : place + bits;
    Entries w;
    for (int half = 0; half < 2; ++half) {
      const uint8_t* codes = chunk + 16 * half;
      w.first[half] = found<form, place>(wasm_v128_load(codes), lookup.tables[half]);
      w.second[half] = found<form, next_place>(wasm_v128_load(codes + next), lookup.tables[half]);
    }
    return w;
  }

  static void add_products(Integers& sums, const Wide (&w)[2], v128_t even, v128_t odd) {
    const auto of_rows = [&](v128_t sum, const Wide& rows) {
      sum = wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(rows.even, even));
      return wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(rows.odd, odd));
    };
    sums = {of_rows(sums.low, w[0]), of_rows(sums.high, w[1])};
  }

  static void dot(Integers& sums, Integers& more, const Entries& w, const int8_t* x) {
    const v128_t all = wasm_i16x8_load8x8(x);
    const v128_t pairs = wasm_i16x8_shuffle(all, all, 0, 2, 1, 3, 4, 6, 5, 7);
    add_products(sums, w.first, wasm_i32x4_shuffle(pairs, pairs, 0, 0, 0, 0),
                 wasm_i32x4_shuffle(pairs, pairs, 1, 1, 1, 1));
    add_products(more, w.second, wasm_i32x4_shuffle(pairs, pairs, 2, 2, 2, 2),
                 wasm_i32x4_shuffle(pairs, pairs, 3, 3, 3, 3));
  }

  static Integers add(Integers a, Integers b) {
    return {wasm_i32x4_add(a.low, b.low), wasm_i32x4_add(a.high, b.high)};
  }
  static Integers widen(Integers sums, Integers more) { return add(sums, more); }

  struct Products {
    v128_t low, high;
  };

  static Products scaled(Integers sums, int32_t offset, const float* scale, float frame_scale) {
    const auto of_rows = [&](v128_t sum, const float* scales) {
      const v128_t exact = wasm_f32x4_convert_i32x4(wasm_i32x4_sub(sum, wasm_i32x4_splat(offset)));
      return wasm_f32x4_mul(wasm_f32x4_mul(exact, wasm_v128_load(scales)),
                            wasm_f32x4_splat(frame_scale));
    };
    return {of_rows(sums.low, scale), of_rows(sums.high, scale + 4)};
  }

  // A NaN stays one: pmin and pmax give the first operand unless a comparison is true.
  static Products ended(Products products, const End& end, size_t row) {
    const auto of_rows = [&](v128_t product, const float* bias) {
      const v128_t sum = wasm_f32x4_add(product, wasm_v128_load(bias));
      return wasm_f32x4_pmin(wasm_f32x4_pmax(sum, wasm_f32x4_splat(end.least)),
                             wasm_f32x4_splat(end.most));
    };
    return {of_rows(products.low, end.bias + row), of_rows(products.high, end.bias + row + 4)};
  }

  static void store(Products values, float* y) {
    wasm_v128_store(y, values.low);
    wasm_v128_store(y + 4, values.high);
  }

  static Floats multiply_add(Floats sums, const float* w, const float* x) {
    return wasm_f32x4_add(sums, wasm_f32x4_mul(wasm_v128_load(w), wasm_v128_load(x)));
  }

  static float total(Floats v) {
    v = wasm_f32x4_add(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
    return wasm_f32x4_extract_lane(v, 0) + wasm_f32x4_extract_lane(v, 1);
  }
};

#include "kernels/float.inl"
#include "kernels/lowbit.inl"

}  // namespace

constinit const Kernels kernels_simd128 =
    all_kernels<Chosen{.c6 = false, .u6 = false, .u7 = true}>("simd128", 0);

}  // namespace tinyvox

#endif
