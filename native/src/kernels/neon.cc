// NEON, as every 64-bit Arm processor has it.
#if defined(__aarch64__)

#include <arm_neon.h>

#include "kernels/kernels.h"

namespace tinyvox {
namespace {

struct Quad {
  // A pair of products fits int16: 2 * 127 * 127.
  static int32x4_t quad(int32x4_t sums, int8x16_t w, int8x16_t x) {
    const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x));
    const int16x8_t high = vmull_high_s8(w, x);
    return vpadalq_s16(sums, vpaddq_s16(low, high));
  }
};

#include "kernels/neon.inl"

}  // namespace

constinit const Kernels kernels_neon =
    all_kernels<Chosen{.c6 = true, .u6 = false, .u7 = false}>("neon", 0);

}  // namespace tinyvox

#endif
