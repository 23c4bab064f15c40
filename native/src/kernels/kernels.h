// What an instruction set has to provide. Everything above this line of the house is portable.
//
// Names follow one grammar, op_weights_activations: gemm_c4_i8 multiplies 4-bit codes by int8
// activations. A kernel of each set computes the same function:
//
//   integers   exactly: sums are int32 and never overflow below max_columns
//   gemm_f32   within the rounding of a sum of `columns` products; its order differs by set, but
//              for one set never depends on how many frames are given at once
//   the rest   exactly: the same operations in the same order, never contracted
#pragma once

#include <cstddef>
#include <cstdint>

namespace tinyvox {

// Weights other than float lie in blocks of Kernels::block_rows x 8 columns, so that a register
// holds 4 columns of each row and sums never cross its lanes. Zero activations fill the last block
// of a frame.
inline constexpr size_t block_columns = 8;
inline constexpr size_t blocks_of(size_t columns) { return (columns + 7) / 8; }

// A sum of this many products of two numbers of at most 127 in magnitude fits int32.
inline constexpr size_t max_columns = 131072;

// Codes of a small table.
//
//   a block, 4 bytes a row:   byte 4 r + c  =  code of row r, column c | code of column 4 + c << 4
//
// The table's entries are without sign: weight = (entry - offset) * scale[row]. Their size is what
// int16 can hold of their products with int8 activations:
//
//   c4   16 entries of 7 bits, offset 64:   a pair, 2 * 127 * 127 = 32258
//   c3    8 entries of 6 bits, offset 32:   two pairs, 4 * 63 * 127 = 32004; bits 3 and 7 of a byte
//                                           are 0, so that it can be looked up as it is
struct Codes {
  const uint8_t* codes;  // [row blocks, column blocks, 4 * block_rows]
  const float* scale;    // [row blocks * block_rows]
  size_t rows, blocks;   // blocks of columns
  int32_t offset;
  uint8_t table[16];
};

// Codes of a larger table, looked up in advance. weight = value * scale[row].
//
//   a block, 8 bytes a row:   byte (h * block_rows + r) * 4 + c  =  value of row r, column 4 h + c
struct ValuesI8 {
  const int8_t* values;  // [row blocks, column blocks, 8 * block_rows], -127 to 127
  const float* scale;    // [row blocks * block_rows]
  size_t rows, blocks;
};

struct WeightsF32 {
  const float* values;  // [rows, columns]
  size_t rows, columns;
};

// Frames as int8: x = values * scale.
struct Activations {
  int8_t* values;  // [frames, blocks, 8], -127 to 127
  float* scale;    // [frames]
  int32_t* sum;    // [frames], of the values
  size_t frames, blocks;
};

// y is [frames, rows] throughout.
struct Kernels {
  const char* isa;
  size_t block_rows;  // weights for this set lie in blocks of so many rows

  void (*gemm_c3_i8)(const Codes& w, const Activations& x, float* y);
  void (*gemm_c4_i8)(const Codes& w, const Activations& x, float* y);
  void (*gemm_i8_i8)(const ValuesI8& w, const Activations& x, float* y);
  void (*gemm_f32_f32)(const WeightsF32& w, const float* x, size_t frames, float* y);

  // One frame of `columns` values to int8: its largest magnitude becomes 127; rounds to even.
  void (*quantize_i8)(const float* x, size_t columns, size_t blocks, int8_t* values, float* scale,
                      int32_t* sum);

  // Elementwise, in place. Absolute errors of sigmoid and tanh are below 2e-7.
  void (*sigmoid_f32)(float* x, size_t size);
  void (*tanh_f32)(float* x, size_t size);

  // One step of a recurrent cell. `x` is the input's half of the gates, bias included, `h` the
  // hidden state's half; gates in PyTorch's order. `state` is read (GRU) and written.
  void (*lstm_f32)(const float* x, const float* h, size_t hidden, float* cell, float* state);
  void (*gru_f32)(const float* x, const float* h, const float* bias_hn, size_t hidden,
                  float* state);
  void (*rnn_tanh_f32)(const float* x, const float* h, size_t hidden, float* state);

  // x[i] - log(sum of exp(x)) over `size` values, in place.
  void (*log_softmax_f32)(float* x, size_t size);
};

extern const Kernels kernels_scalar;
#if defined(__x86_64__)
extern const Kernels kernels_avx2, kernels_avx512;
#endif

// The best set that this processor has, or the one that TINYVOX_ISA names. Raises
// std::runtime_error where it names none that can run here.
const Kernels& kernels();

// The set of this name; null where there is none, or the processor cannot run it.
const Kernels* kernels_named(const char* isa);

// The names of the sets that run here, best first.
size_t kernel_names(const char** names, size_t most);

}  // namespace tinyvox
