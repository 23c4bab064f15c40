// AVX-VNNI: AVX2 with sums of four products (Alder Lake, Zen 5 and later).
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/kernels.h"

namespace tinyvox {
namespace {

#include "kernels/avx2.inl"

struct Vector : Registers {
  static constexpr bool has_quads = true;

  // Inline assembly, so that GCC does not copy the sums.
  static Integers add_quads(Integers sums, Integers w, Integers x) {
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sums) : "x"(w), "x"(x));
    return sums;
  }
};

#include "kernels/x86.inl"

}  // namespace

// vpdpbusd needs unsigned weights, hence an offset of 128, with which bytes of any range are as
// fast as those of 6 and 7 bits.
constinit const Kernels kernels_avxvnni =
    all_kernels<Chosen{.c6 = false, .u6 = false, .u7 = false}>("avxvnni", 128);

}  // namespace tinyvox

#endif
