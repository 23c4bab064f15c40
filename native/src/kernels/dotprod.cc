// NEON with the dot products of Armv8.2 (Cortex-A55, A75 and later).
#if defined(__aarch64__)

#include <arm_neon.h>

#include "kernels/kernels.h"

namespace tinyvox {
namespace {

struct Quad {
  static int32x4_t quad(int32x4_t sums, int8x16_t w, int8x16_t x) { return vdotq_s32(sums, w, x); }
};

#include "kernels/neon.inl"

}  // namespace

constinit const Kernels kernels_dotprod =
    all_kernels<Chosen{.c6 = true, .u6 = false, .u7 = false}>("dotprod", 0);

}  // namespace tinyvox

#endif
