// The meaning of every kernel, and the fallback on any processor.
#include "kernels/kernels.h"

namespace tinyvox {
namespace {

#include "kernels/float.inl"

uint8_t code_at(const uint8_t* row, size_t column) {
  const uint8_t pair = row[column / block_columns * 32 + column % 32];
  return column % block_columns < 32 ? pair & 15 : pair >> 4;
}

void gemm_c4_i8(const CodesC4& w, const Activations& x, float* y) {
  const size_t columns = w.blocks * block_columns;
  for (size_t frame = 0; frame < x.frames; ++frame)
    for (size_t row = 0; row < w.rows; ++row) {
      const uint8_t* codes = w.codes + row * w.blocks * 32;
      const int8_t* values = x.values + frame * columns;
      int32_t sum = 0;
      for (size_t i = 0; i < columns; ++i) sum += w.table[code_at(codes, i)] * values[i];
      const auto exact = static_cast<float>(sum - 64 * x.sum[frame]);
      y[frame * w.rows + row] = exact * w.scale[row] * x.scale[frame];
    }
}

void gemm_i8_i8(const CodesI8& w, const Activations& x, float* y) {
  const size_t columns = w.blocks * block_columns;
  for (size_t frame = 0; frame < x.frames; ++frame)
    for (size_t row = 0; row < w.rows; ++row) {
      int32_t sum = 0;
      for (size_t i = 0; i < columns; ++i)
        sum += w.values[row * columns + i] * x.values[frame * columns + i];
      y[frame * w.rows + row] = static_cast<float>(sum) * w.scale[row] * x.scale[frame];
    }
}

void gemm_f32_f32(const WeightsF32& w, const float* x, size_t frames, float* y) {
  for (size_t frame = 0; frame < frames; ++frame)
    for (size_t row = 0; row < w.rows; ++row) {
      float sum = 0;
      for (size_t i = 0; i < w.columns; ++i)
        sum += w.values[row * w.columns + i] * x[frame * w.columns + i];
      y[frame * w.rows + row] = sum;
    }
}

}  // namespace

const Kernels kernels_scalar = {
    "scalar",  gemm_c4_i8, gemm_i8_i8, gemm_f32_f32, quantize_i8,     sigmoid_f32,
    tanh_f32,  lstm_f32,   gru_f32,    rnn_tanh_f32, log_softmax_f32,
};

}  // namespace tinyvox
