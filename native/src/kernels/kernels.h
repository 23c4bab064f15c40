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

// Codes and int8 activations come in blocks of 64 columns, zero activations filling the last one.
inline constexpr size_t block_columns = 64;
inline constexpr size_t blocks_of(size_t columns) {
  return (columns + block_columns - 1) / block_columns;
}

// A sum of this many products of two numbers of at most 127 in magnitude fits int32.
inline constexpr size_t max_columns = 131072;

// Codes of a table of at most 16 entries.
//
//   a block, 32 bytes:   byte i  =  code of column i  |  code of column 32 + i  << 4
//
// Table entries are 7 bits, offset by 64: a pair of products with int8 activations then fits int16,
// 2 * 127 * 127 = 32258, which AVX2's vpmaddubsw needs. weight = (entry - 64) * scale[row].
struct CodesC4 {
  const uint8_t* codes;  // [rows, blocks, 32]
  const float* scale;    // [rows]
  size_t rows, blocks;
  uint8_t table[16];  // 1 to 127
};

// Codes of a larger table, looked up in advance. weight = value * scale[row].
struct CodesI8 {
  const int8_t* values;  // [rows, blocks, 64], -127 to 127
  const float* scale;    // [rows]
  size_t rows, blocks;
};

struct WeightsF32 {
  const float* values;  // [rows, columns]
  size_t rows, columns;
};

// Frames as int8: x = values * scale.
struct Activations {
  int8_t* values;  // [frames, blocks, 64], -127 to 127
  float* scale;    // [frames]
  int32_t* sum;    // [frames], of the values
  size_t frames, blocks;
};

// y is [frames, rows] throughout.
struct Kernels {
  const char* isa;

  void (*gemm_c4_i8)(const CodesC4& w, const Activations& x, float* y);
  void (*gemm_i8_i8)(const CodesI8& w, const Activations& x, float* y);
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
extern const Kernels kernels_avx2;
#endif

// The best set that this processor has, or the one that TINYVOX_ISA names. Raises
// std::runtime_error where it names none that can run here.
const Kernels& kernels();

// The set of this name; null where there is none, or the processor cannot run it.
const Kernels* kernels_named(const char* isa);

// The names of the sets that run here, best first.
size_t kernel_names(const char** names, size_t most);

}  // namespace tinyvox
