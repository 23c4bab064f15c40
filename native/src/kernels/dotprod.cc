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

const Kernels kernels_dotprod = {
    "dotprod",
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
