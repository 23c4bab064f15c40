// The reference of every kernel, in plain C++; it also runs on processors without a faster set.
#include "kernels/kernels.h"

namespace tinyvox {
namespace {

#include "kernels/float.inl"

constexpr size_t block_rows = 8, width = 4 * block_rows;

template <Form form>
int32_t entry_at(const Weights& w, size_t row, size_t column) {
  constexpr Packing packing = packing_of(form);
  const size_t block = row / block_rows, chunk = column / packing.columns();
  const uint8_t* bytes = w.codes + chunk_at(w.chunks, block, chunk) * packing.registers * width;
  const size_t lane = 4 * (row % block_rows) + column % 4;
  const uint8_t code = code_at(form, bytes, width, lane, column % packing.columns() / 4);
  if constexpr (form == Form::i8) return static_cast<int8_t>(code);
  if constexpr (!has_table(form)) return code;
  if constexpr (form == Form::r2)
    return static_cast<int8_t>(w.table[block * width + 4 * (row % block_rows) + code]);
  return static_cast<int8_t>(w.table[code]);
}

template <Form form>
void gemm_i8(const Weights& w, const Activations& x, Results y) {
  const size_t columns = w.chunks * packing_of(form).columns();
  for (size_t frame = 0; frame < x.frames; ++frame)
    for (size_t row = 0; row < w.rows; ++row) {
      uint32_t sum = 0;
      for (size_t i = 0; i < columns; ++i)
        sum += static_cast<uint32_t>(entry_at<form>(w, row, i) * x.values[frame * x.stride + i]);
      for (const Stray& stray : strays_of(w, row / block_rows))
        if (stray.row == row % block_rows)
          sum += static_cast<uint32_t>(stray.more * x.values[frame * x.stride + stray.column]);
      sum -= static_cast<uint32_t>(offset_of(w, x, frame));
      const auto exact = static_cast<float>(static_cast<int32_t>(sum));
      y.values[frame * y.stride + row] = y.end(exact * w.scale[row] * x.scale[frame], row);
    }
}

void gemm_f32(const WeightsF32& w, const float* x, size_t frames, Results y) {
  for (size_t frame = 0; frame < frames; ++frame)
    for (size_t row = 0; row < w.rows; ++row) {
      float sum = 0;
      for (size_t i = 0; i < w.columns; ++i)
        sum += w.values[row * w.columns + i] * x[frame * w.columns + i];
      y.values[frame * y.stride + row] = y.end(sum, row);
    }
}

}  // namespace

const Kernels kernels_scalar = {
    "scalar",
    block_rows,
    0,
    {gemm_i8<Form::c1>, gemm_i8<Form::c2>, gemm_i8<Form::r2>, gemm_i8<Form::c3>, gemm_i8<Form::c4>,
     gemm_i8<Form::c6>, gemm_i8<Form::g4>, nullptr, nullptr, gemm_i8<Form::i8>},
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
