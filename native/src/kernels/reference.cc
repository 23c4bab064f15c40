// The meaning of every kernel, and the fallback on any processor.
#include "kernels/kernels.h"

namespace tinyvox {
namespace {

#include "kernels/float.inl"

constexpr size_t block_rows = 8;

uint8_t entry_at(const Codes& w, size_t row, size_t column) {
  const size_t block = row / block_rows * w.blocks + column / block_columns;
  const uint8_t pair = w.codes[block * 32 + row % block_rows * 4 + column % 4];
  return w.table[column % block_columns < 4 ? pair & 15 : pair >> 4];
}

int8_t value_at(const ValuesI8& w, size_t row, size_t column) {
  const size_t block = row / block_rows * w.blocks + column / block_columns;
  const size_t half = column % block_columns / 4;
  return w.values[block * 64 + half * 32 + row % block_rows * 4 + column % 4];
}

void gemm_codes_i8(const Codes& w, const Activations& x, float* y) {
  const size_t columns = w.blocks * block_columns;
  for (size_t frame = 0; frame < x.frames; ++frame)
    for (size_t row = 0; row < w.rows; ++row) {
      int32_t sum = 0;
      for (size_t i = 0; i < columns; ++i)
        sum += entry_at(w, row, i) * x.values[frame * columns + i];
      const auto exact = static_cast<float>(sum - w.offset * x.sum[frame]);
      y[frame * w.rows + row] = exact * w.scale[row] * x.scale[frame];
    }
}

void gemm_i8_i8(const ValuesI8& w, const Activations& x, float* y) {
  const size_t columns = w.blocks * block_columns;
  for (size_t frame = 0; frame < x.frames; ++frame)
    for (size_t row = 0; row < w.rows; ++row) {
      int32_t sum = 0;
      for (size_t i = 0; i < columns; ++i)
        sum += value_at(w, row, i) * x.values[frame * columns + i];
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
    "scalar",     block_rows,   gemm_codes_i8,   gemm_codes_i8, gemm_i8_i8,
    gemm_f32_f32, quantize_i8,  sigmoid_f32,     tanh_f32,      lstm_f32,
    gru_f32,      rnn_tanh_f32, log_softmax_f32,
};

}  // namespace tinyvox
