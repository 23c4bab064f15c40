// SSSE3, AVX2 and AVX-VNNI: all kernels of matrices except `Vector`, which the including file
// defines:
//
//   Integers, Floats      registers, of the same number of bytes
//   load, broadcast       bytes as they are; 16 bytes, or four, again and again
//   both, shift_right     bitwise and; in 16 bits
//   find                  bytes of a table of 16 for each 16 indices
//   add_16, add_32, subtract_32
//   pairs                 sums of two products of unsigned and signed bytes, in 16 bits
//   add_pairs             adds sums of two neighbors of 16 bits to 32 bits
//   magnitude, with_sign  of signed bytes; with_sign(x, w) is x, -x or 0 by the sign of w
//   quads                 `has_quads`: adds sums of four products to 32 bits, or throws nothing
//   away convert, load_floats, store, multiply, add, largest, smallest, broadcast, multiply_add,
//   total

struct Simd : Vector {
  using Vector::Integers, Vector::Floats;
  static constexpr size_t rows = sizeof(Integers) / 4, float_lanes = rows;
  static constexpr int sums = 8;

  // Sums of products with the entries of g4 are widened every 32 columns. See kernels.h.
  template <Form form>
  static constexpr size_t run = form == Form::g4 && !Vector::has_quads ? 4 : 1;

  // The entries of two quads, unsigned of so many bits. Those of 8 bits are signed where there are
  // no sums of quads, else they have an offset.
  template <unsigned bits>
  struct Entries {
    Integers first, second;
  };

  template <Form form>
  struct Lookup {
    Integers table;

    Lookup() = default;
    explicit Lookup(const uint8_t* bytes) {
      if constexpr (form == Form::r2)
        table = Vector::load(bytes);
      else if constexpr (has_table(form))
        table = Vector::broadcast_16(bytes);
    }
  };

  static Integers bytes_of(unsigned value) {
    return Vector::broadcast_4(static_cast<int32_t>(value * 0x01010101u));
  }

  // The codes that begin at bit `place`. The shift also brings in bits of the byte beside.
  template <unsigned bits>
  static Integers at(Integers codes, int place) {
    return Vector::both(place ? Vector::shift_right(codes, place) : codes,
                        bytes_of((1 << bits) - 1));
  }

  // The code is in bits 0 and 1. The bits above say which of the four rows of a lane's table.
  static Integers with_row(Integers codes) {
    alignas(16) static constexpr uint8_t row[16] = {0, 0, 0, 0, 4,  4,  4,  4,
                                                    8, 8, 8, 8, 12, 12, 12, 12};
    return Vector::either(codes, Vector::broadcast_16(row));
  }

  template <Form form, int i>
  static auto unpack(const uint8_t* chunk, const Lookup<form>& lookup) {
    constexpr Packing packing = packing_of(form);
    using Found = Entries<packing.entry_bits>;
    const Integers codes = Vector::load(chunk);
    if constexpr (packing.bits == 8) {
      return Found{codes, Vector::load(chunk + sizeof(Integers))};
    } else {
      constexpr unsigned bits = packing.bits;
      Integers first = at<bits>(codes, 2 * i * bits), second = at<bits>(codes, (2 * i + 1) * bits);
      if constexpr (!has_table(form)) return Found{first, second};
      if constexpr (form == Form::r2) first = with_row(first), second = with_row(second);
      return Found{Vector::find(lookup.table, first), Vector::find(lookup.table, second)};
    }
  }

  // Four activations, repeated for every row.
  static Integers four(const int8_t* x) {
    int32_t bits;
    __builtin_memcpy(&bits, x, 4);
    return Vector::broadcast_4(bits);
  }

  template <unsigned bits>
  static void dot(Integers& sums, Integers& more, const Entries<bits>& w, const int8_t* x) {
    const Integers low = four(x), high = four(x + 4);
    if constexpr (Vector::has_quads) {
      sums = Vector::add_quads(sums, w.first, low);
      more = Vector::add_quads(more, w.second, high);
    } else if constexpr (bits == 4) {
      sums = in_place(Vector::add_16(sums, Vector::pairs(w.first, low)));
      sums = in_place(Vector::add_16(sums, Vector::pairs(w.second, high)));
    } else if constexpr (bits == 6) {
      sums =
          widen(sums, Vector::add_16(Vector::pairs(w.first, low), Vector::pairs(w.second, high)));
    } else if constexpr (bits == 7) {
      sums = widen(sums, Vector::pairs(w.first, low));
      more = widen(more, Vector::pairs(w.second, high));
    } else {
      sums = widen(sums, signed_pairs(w.first, low));
      more = widen(more, signed_pairs(w.second, high));
    }
  }

  // Else GCC adds in another order, for which it has too few registers.
  static Integers in_place(Integers sums) {
    asm("" : "+x"(sums));
    return sums;
  }

  // One factor must be unsigned: |w| is multiplied by x with the sign of w.
  static Integers signed_pairs(Integers w, Integers x) {
    return Vector::pairs(Vector::magnitude(w), Vector::with_sign(x, w));
  }

  static Integers widen(Integers sums, Integers pairs) { return Vector::add_pairs(sums, pairs); }

  static Integers add(Integers a, Integers b) { return Vector::add_32(a, b); }

  static Floats scaled(Integers sums, int32_t offset, const float* scale, float frame_scale) {
    const Floats exact = Vector::convert(Vector::subtract_32(sums, Vector::broadcast_4(offset)));
    return Vector::multiply(Vector::multiply(exact, Vector::load_floats(scale)),
                            Vector::broadcast_float(frame_scale));
  }

  // The sums stand last: where one is NaN, the result is the operand that stands last.
  static Floats ended(Floats products, const End& end, size_t row) {
    const Floats sums = Vector::add_floats(products, Vector::load_floats(end.bias + row));
    return Vector::smaller(Vector::broadcast_float(end.most),
                           Vector::larger(Vector::broadcast_float(end.least), sums));
  }
};

#include "kernels/lowbit.inl"
