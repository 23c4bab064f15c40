// NEON as every 64-bit Arm has it.
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

const Kernels kernels_neon = {
    "neon",
    Simd::rows,
    0,
    {gemm_i8<Form::c1>, gemm_i8<Form::c2>, gemm_i8<Form::r2>, gemm_i8<Form::c3>, gemm_i8<Form::c4>,
     gemm_i8<Form::c6>, gemm_i8<Form::i8>},
    gemm_f32,
    quantize_i8,
    sigmoid_f32,
    tanh_f32,
    lstm_f32,
    gru_f32,
    rnn_tanh_f32,
    log_softmax_f32,
};

}  // namespace tinyvox

#endif
