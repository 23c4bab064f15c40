// AVX2 and FMA: Haswell, Zen and later.
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/kernels.h"

namespace tinyvox {
namespace {

#include "kernels/avx2.inl"

struct Vector : Registers {
  static constexpr bool has_quads = false;
  static Integers add_quads(Integers sums, Integers, Integers) { return sums; }  // not called
};

#include "kernels/x86.inl"

}  // namespace

// A lookup among 64 entries would take four lookups and three selections, so there is no c6.
constinit const Kernels kernels_avx2 =
    all_kernels<Chosen{.c6 = false, .u6 = true, .u7 = true}>("avx2", 0);

}  // namespace tinyvox

#endif
