// What this machine can do at most, one thread: bytes read, int8 products summed.
//
// `probes.py` compiles it for the machine that it runs on.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace {

using Vector = uint64_t __attribute__((vector_size(64)));

constexpr size_t line = sizeof(Vector), step = 4, sums = 16;

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

#if defined(__AVX512VNNI__)
using Sum = __m512i;
constexpr size_t products = 64;
Sum add_products(Sum sum, Sum a, Sum b) { return _mm512_dpbusd_epi32(sum, a, b); }
#elif defined(__AVXVNNI__)
using Sum = __m256i;
constexpr size_t products = 32;
Sum add_products(Sum sum, Sum a, Sum b) { return _mm256_dpbusd_avx_epi32(sum, a, b); }
#else
using Sum = __m128i;
constexpr size_t products = 0;
Sum add_products(Sum sum, Sum, Sum) { return sum; }
#endif

}  // namespace

extern "C" {

// `data` is aligned to 64 bytes, `bytes` a multiple of 1024.
void read_bytes(const uint8_t* data, size_t bytes, size_t passes, size_t streams) {
  for (size_t pass = 0; pass < passes; ++pass)
    (streams == 1 ? read_once<1> : read_once<4>)(data, bytes);
}

// Sums int8 products and returns how many; 0 where there is no instruction for it.
size_t multiply(size_t rounds) {
  Sum sum[sums], a = {}, b = {};
  for (Sum& each : sum) asm volatile("" : "=v"(each));  // else they are one sum to the compiler
  for (size_t i = 0; i < rounds; ++i) {
    asm volatile("" : "+v"(a), "+v"(b));
#pragma GCC unroll 16
    for (Sum& each : sum) each = add_products(each, a, b);
  }
  for (const Sum& each : sum) asm volatile("" : : "v"(each));
  return rounds * sums * products;
}
}
