// What an instruction set has to provide. Everything above this line of the house is portable.
// A kernel of each set computes the same function:
//
//   integers   exactly: sums are int32 and never overflow below max_columns
//   gemm_f32   within the rounding of a sum of `columns` products; its order differs by set, but
//              for one set never depends on how many frames are given at once
//   the rest   exactly: the same operations in the same order, never contracted
#pragma once

#include <cstddef>
#include <cstdint>

namespace tinyvox {

// A sum of this many products of two numbers of at most 127 in magnitude fits int32.
inline constexpr size_t max_columns = 131072;

// How the codes of a matrix lie in memory. weight = (entry - offset) * scale[row], where the entry
// is looked up by the code, or is there as it is.
//
// Weights lie in registers of 4 bytes a row: byte 4 r + c belongs to row r, and to column c of
// every quad, four columns, that the register holds. So a register's products with four
// activations, the same for each row, sum up in the lane of the row. Rows come in blocks of
// Kernels::block_rows; zero activations fill the last chunk of a frame, the least number of whole
// registers.
enum class Form : uint8_t {
  c1,  // 1 bit, one table for the matrix: 8 quads in a register
  c2,  // 2 bits: 4 quads
  r2,  // 2 bits, a table for each row
  c3,  // 3 bits: 2 quads
  c4,  // 4 bits: 2 quads
  c6,  // 6 bits: 4 quads in 3 registers, of which the upper two bits are the fourth's
  i8,  // no table: entries as they are, 2 quads in 2 registers
};
inline constexpr size_t form_count = 7;

struct Packing {
  size_t registers, quads;  // of a chunk
  unsigned bits;            // of a code
  // Entries of c1 to c4 have no sign, and a size at which their products with int8 activations fit
  // the 16 bits that some sets sum in:
  //
  //   c4              7 bits, offset 64:   a pair of products, 2 * 127 * 127 = 32258
  //   c1, c2, c3      6 bits, offset 32:   two pairs, 4 * 63 * 127 = 32004
  //
  // Those of the others are of -127 to 127, to which a set adds its Kernels::value_offset.
  int32_t offset;  // 0: the set's

  constexpr size_t columns() const { return 4 * quads; }
  constexpr size_t chunks(size_t of_columns) const {
    return (of_columns + columns() - 1) / columns();
  }
};

inline constexpr Packing packings[form_count] = {
    {1, 8, 1, 32}, {1, 4, 2, 32}, {1, 4, 2, 0}, {1, 2, 3, 32},
    {1, 2, 4, 64}, {3, 4, 6, 0},  {2, 2, 8, 0},
};
constexpr const Packing& packing_of(Form form) { return packings[static_cast<size_t>(form)]; }

// A frame's activations take so many bytes: whole chunks of every form.
inline constexpr size_t padded_to = 32;
constexpr size_t padded(size_t columns) {
  return (columns + padded_to - 1) / padded_to * padded_to;
}

// The code, or the entry, of one quad, in a chunk of registers of `width` bytes; `lane` is 4 r + c.
inline uint8_t code_at(Form form, const uint8_t* chunk, size_t width, size_t lane, size_t quad) {
  const auto byte = [&](size_t index) -> unsigned { return chunk[index * width + lane]; };
  const unsigned bits = packing_of(form).bits, mask = (1u << bits) - 1;
  if (form == Form::i8) return static_cast<uint8_t>(byte(quad));
  if (form != Form::c6) return static_cast<uint8_t>(byte(0) >> bits * quad & mask);
  if (quad < 3) return static_cast<uint8_t>(byte(quad) & mask);
  return static_cast<uint8_t>(byte(0) >> 6 | byte(1) >> 6 << 2 | byte(2) >> 6 << 4);
}

// Puts it there, where zeros were.
inline void put_code(Form form, uint8_t* chunk, size_t width, size_t lane, size_t quad,
                     uint8_t code) {
  const auto add = [&](size_t index, unsigned value) {
    chunk[index * width + lane] |= static_cast<uint8_t>(value);
  };
  if (form == Form::i8) return add(quad, code);
  if (form != Form::c6) return add(0, static_cast<unsigned>(code) << packing_of(form).bits * quad);
  if (quad < 3) return add(quad, code);
  for (size_t i = 0; i < 3; ++i) add(i, static_cast<unsigned>(code >> 2 * i & 3) << 6);
}

// Four blocks of rows form a panel, whose chunks alternate: one frame reads memory in one stream.
// The last panel is whole, too.
inline constexpr size_t panel_blocks = 4;

// Where a chunk of a block lies, counted in chunks.
constexpr size_t chunk_at(size_t chunks, size_t block, size_t chunk) {
  const size_t in_panel = block % panel_blocks;
  return (block - in_panel) * chunks + chunk * panel_blocks + in_panel;
}

struct Weights {
  const uint8_t* codes;  // [panels, chunks, panel_blocks, registers, 4 * block_rows]
  const uint8_t* table;  // [64] by code; r2: [row blocks, 4 * block_rows], byte 4 r + code
  const float* scale;    // [row blocks * block_rows]
  size_t rows, chunks;
  int32_t offset;
};

struct WeightsF32 {
  const float* values;  // [rows, columns]
  size_t rows, columns;
};

// Frames as int8: x = values * scale.
struct Activations {
  const int8_t* values;  // [frames, stride], -127 to 127; zeros after the columns
  const float* scale;    // [frames]
  const int32_t* sum;    // [frames], of the values
  size_t frames, stride;
};

// Where results go: row r of frame f to values[f * stride + r].
struct Results {
  float* values;
  size_t stride;
};

using GemmI8 = void (*)(const Weights& w, const Activations& x, Results y);

struct Kernels {
  const char* isa;
  size_t block_rows;     // weights for this set lie in blocks of so many rows
  int32_t value_offset;  // added to the entries of r2, c6 and i8

  GemmI8 gemm_i8[form_count];  // by Form; null where i8 serves better
  void (*gemm_f32)(const WeightsF32& w, const float* x, size_t frames, Results y);

  // One frame of `columns` values to int8: its largest magnitude becomes 127; rounds to even.
  void (*quantize_i8)(const float* x, size_t columns, size_t stride, int8_t* values, float* scale,
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
#elif defined(__aarch64__)
extern const Kernels kernels_neon, kernels_dotprod;
#endif

// The best set that this processor has, or the one that TINYVOX_ISA names. Raises
// std::runtime_error where it names none that can run here.
const Kernels& kernels();

// The set of this name; null where there is none, or the processor cannot run it.
const Kernels* kernels_named(const char* isa);

// The names of the sets that run here, best first.
size_t kernel_names(const char** names, size_t most);

}  // namespace tinyvox
