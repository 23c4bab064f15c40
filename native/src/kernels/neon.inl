// NEON: all kernels except `Quad`, which the including file defines: it adds the products of four
// rows x four columns with four activations to four sums.

struct Simd : Quad {
  using Integers = int32x4_t;
  using Floats = float32x4_t;
  static constexpr size_t rows = 4, float_lanes = 4;
  static constexpr int sums = 16;
  template <Form>
  static constexpr size_t run = 1;

  // The entries of two quads. Unsigned ones have at most 7 bits, so they can be read as signed.
  struct Entries {
    int8x16_t first, second;
  };

  template <Form form>
  struct Lookup {
    static constexpr int registers = form == Form::c6 ? 4 : 1;
    uint8x16_t tables[registers];

    Lookup() = default;
    explicit Lookup(const uint8_t* bytes) {
      if constexpr (has_table(form))
        for (int i = 0; i < registers; ++i) tables[i] = vld1q_u8(bytes + 16 * i);
    }

    int8x16_t operator()(uint8x16_t codes) const {
      if constexpr (form != Form::c6) return vreinterpretq_s8_u8(vqtbl1q_u8(tables[0], codes));
      const uint8x16x4_t all{
          {tables[0], tables[1 % registers], tables[2 % registers], tables[3 % registers]}};
      return vreinterpretq_s8_u8(vqtbl4q_u8(all, codes));
    }
  };

  template <unsigned bits>
  static uint8x16_t at(uint8x16_t codes, int place) {
    const uint8x16_t moved = vshlq_u8(codes, vdupq_n_s8(static_cast<int8_t>(-place)));
    return place + bits == 8 ? moved : vandq_u8(moved, vdupq_n_u8((1 << bits) - 1));
  }

  // The code is in bits 0 and 1, the row in the bits above.
  static uint8x16_t with_row(uint8x16_t codes) {
    static constexpr uint8_t row[16] = {0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12};
    return vorrq_u8(codes, vld1q_u8(row));
  }

  template <Form form, int i>
  static Entries unpack(const uint8_t* chunk, const Lookup<form>& lookup) {
    constexpr unsigned bits = packing_of(form).bits;
    const uint8x16_t codes = vld1q_u8(chunk);
    if constexpr (form == Form::i8) {
      return {vreinterpretq_s8_u8(codes), vreinterpretq_s8_u8(vld1q_u8(chunk + 16))};
    } else if constexpr (form == Form::c6) {
      const uint8x16_t second = vld1q_u8(chunk + 16), third = vld1q_u8(chunk + 32);
      if constexpr (i == 0) return {lookup(at<6>(codes, 0)), lookup(at<6>(second, 0))};
      // Inserted from the top down: bits 4 and 5, then 2 and 3, then 0 and 1.
      uint8x16_t last = vshrq_n_u8(third, 2);
      last = vbslq_u8(vdupq_n_u8(15), vshrq_n_u8(second, 4), last);
      last = vbslq_u8(vdupq_n_u8(3), vshrq_n_u8(codes, 6), last);
      return {lookup(at<6>(third, 0)), lookup(last)};
    } else {
      uint8x16_t first = at<bits>(codes, 2 * i * bits);
      uint8x16_t second = at<bits>(codes, (2 * i + 1) * bits);
      if constexpr (form == Form::r2) first = with_row(first), second = with_row(second);
      if constexpr (form == Form::g4)
        return {vreinterpretq_s8_u8(first), vreinterpretq_s8_u8(second)};
      else
        return {lookup(first), lookup(second)};
    }
  }

  // Four activations, repeated for every row.
  static int8x16_t four(const int8_t* x) {
    int32_t bits;
    __builtin_memcpy(&bits, x, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(bits));
  }

  static void dot(Integers& sums, Integers& more, const Entries& w, const int8_t* x) {
    sums = Quad::quad(sums, w.first, four(x));
    more = Quad::quad(more, w.second, four(x + 4));
  }

  static Integers add(Integers a, Integers b) { return vaddq_s32(a, b); }

  static Integers widen(Integers sums, Integers more) { return add(sums, more); }

  static Floats scaled(Integers sums, int32_t offset, const float* scale, float frame_scale) {
    const int32x4_t sum = vsubq_s32(sums, vdupq_n_s32(offset));
    return vmulq_n_f32(vmulq_f32(vcvtq_f32_s32(sum), vld1q_f32(scale)), frame_scale);
  }

  // A NaN stays one.
  static Floats ended(Floats products, const End& end, size_t row) {
    const float32x4_t sums = vaddq_f32(products, vld1q_f32(end.bias + row));
    const float32x4_t low = vdupq_n_f32(end.least), high = vdupq_n_f32(end.most);
    const float32x4_t above = vbslq_f32(vcltq_f32(sums, low), low, sums);
    return vbslq_f32(vcltq_f32(high, above), high, above);
  }

  static void store(Floats values, float* y) { vst1q_f32(y, values); }

  static Floats multiply_add(Floats sums, const float* w, const float* x) {
    return vfmaq_f32(sums, vld1q_f32(w), vld1q_f32(x));
  }

  static float total(Floats v) { return vaddvq_f32(v); }
};

#include "kernels/float.inl"
#include "kernels/lowbit.inl"
