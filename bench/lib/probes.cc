// What this machine can do at most, one thread: bytes read, int8 products summed.
//
// `probes.py` compiles it for the machine that it runs on.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace {

using Vector = uint64_t __attribute__((vector_size(64)));

constexpr size_t line = sizeof(Vector), step = 4, sums = 12;

// `streams` parts of `bytes` side by side, so that more reads are under way at once.
template <size_t streams>
void read_once(const uint8_t* data, size_t bytes) {
  Vector sum[streams * step] = {};
  const size_t part = bytes / streams;
  for (size_t i = 0; i < part; i += step * line)
    for (size_t j = 0; j < streams * step; ++j)
      sum[j] |= *reinterpret_cast<const Vector*>(data + j / step * part + i + j % step * line);
  for (const Vector& each : sum) asm volatile("" : : "m"(each) : "memory");
}

// What an instruction set multiplies bytes with, in as many registers as can wait for each other;
// `products` of an instruction are 0 where this machine does not have it.
enum Instruction { vnni_512, vnni_256, pairs_256, pairs_128 };

template <Instruction>
struct Multiply {
  using Sum = __m128i;
  static constexpr size_t products = 0;
  static void add(Sum&, Sum, Sum) {}
};

#if defined(__AVX512VNNI__)
template <>
struct Multiply<vnni_512> {
  using Sum = __m512i;
  static constexpr size_t products = 64;
  static void add(Sum& sum, Sum a, Sum b) {
    asm volatile("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  }
};
#endif
#if defined(__AVXVNNI__)
template <>
struct Multiply<vnni_256> {
  using Sum = __m256i;
  static constexpr size_t products = 32;
  static void add(Sum& sum, Sum a, Sum b) {
    asm volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
  }
};
#endif
#if defined(__AVX2__)
template <>
struct Multiply<pairs_256> {
  using Sum = __m256i;
  static constexpr size_t products = 32;
  static void add(Sum& sum, Sum a, Sum b) {
    asm volatile("vpmaddubsw %2, %1, %0" : "=x"(sum) : "x"(a), "x"(b));
  }
};
#endif
#if defined(__SSSE3__)
template <>
struct Multiply<pairs_128> {
  using Sum = __m128i;
  static constexpr size_t products = 16;
  static void add(Sum& sum, Sum a, Sum) { asm volatile("pmaddubsw %1, %0" : "+x"(sum) : "x"(a)); }
};
#endif

template <Instruction which>
size_t multiply_by(size_t rounds) {
  using One = Multiply<which>;
  typename One::Sum sum[sums] = {}, a = {}, b = {};
  for (typename One::Sum& each : sum) asm volatile("" : "+x"(each));
  if (One::products == 0) return 0;
  for (size_t i = 0; i < rounds; ++i)
#pragma GCC unroll 12
    for (typename One::Sum& each : sum) One::add(each, a, b);
  for (const typename One::Sum& each : sum) asm volatile("" : : "x"(each));
  return rounds * sums * One::products;
}

// The same in the tiles of AMX: 16 by 16 sums of 64 products.
#if defined(__AMX_INT8__)
size_t multiply_tiles(size_t rounds) {
  struct alignas(64) {
    uint8_t palette = 1, rest[15] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16};
  } shapes;
  asm volatile("" : : : "memory");
  _tile_loadconfig(&shapes);
  for (size_t i = 0; i < rounds; ++i) {
    _tile_dpbsud(0, 4, 5);
    _tile_dpbsud(1, 4, 5);
    _tile_dpbsud(2, 4, 5);
    _tile_dpbsud(3, 4, 5);
  }
  _tile_release();
  return rounds * 4 * 16 * 16 * 64;
}
#else
size_t multiply_tiles(size_t) { return 0; }
#endif

}  // namespace

extern "C" {

// `data` is aligned to 64 bytes, `bytes` a multiple of 1024.
void read_bytes(const uint8_t* data, size_t bytes, size_t passes, size_t streams) {
  for (size_t pass = 0; pass < passes; ++pass)
    (streams == 1 ? read_once<1> : read_once<4>)(data, bytes);
}

// Multiplies bytes by an instruction, by its number; returns how many, 0 where it does not exist.
// The process must have asked for tiles before, as `tinyvox` does.
size_t multiply(size_t instruction, size_t rounds) {
  constexpr size_t (*all[])(size_t) = {multiply_by<vnni_512>, multiply_by<vnni_256>,
                                       multiply_by<pairs_256>, multiply_by<pairs_128>,
                                       multiply_tiles};
  return all[instruction](rounds);
}
}
