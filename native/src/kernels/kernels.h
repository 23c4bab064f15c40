// The kernels: all that an instruction set has to provide. All other code is portable. A kernel
// gives the same result on every set:
//
//   integers   exactly: sums are int32, and do not overflow up to max_columns
//   gemm_f32   up to the rounding of a sum of `columns` products; the order of the sum differs by
//              set, but on one set never depends on the number of frames
//   the rest   exactly: the same operations in the same order, without fused multiply-adds
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace tinyvox {

// The sum of this many products of two numbers of at most 127 in magnitude fits int32.
inline constexpr size_t max_columns = 131072;

// How the codes of a matrix lie in memory. weight = (entry - offset) * scale[row]; the entry is
// looked up by the code, or is stored itself. Of a grid the code is the entry, and the offset is
// the code that stands for zero.
//
// A quad is four columns. A register holds the codes of one or more quads for a block of
// Kernels::block_rows rows: byte 4 r + c holds those of row r and of column c of each quad. Each
// row has a lane of four bytes, in which its products with the four activations of a quad are
// summed. A chunk is the smallest number of whole registers that holds whole quads. Activations of
// zero fill up the last chunk of a frame.
enum class Form : uint8_t {
  c1,  // 1 bit, one table for the matrix: 8 quads in a register
  c2,  // 2 bits: 4 quads
  r2,  // 2 bits, a table for each row
  c3,  // 3 bits: 2 quads
  c4,  // 4 bits: 2 quads
  c6,  // 6 bits: 4 quads in 3 registers; the upper two bits of each belong to the fourth quad
  g4,  // 4 bits, no table, the entries themselves, but for strays: 2 quads
  u6,  // no table, entries of at most 6 bits in bytes: 2 quads in 2 registers
  u7,  // the same of 7 bits
  i8,  // the same of 8 bits, of which the set says what they mean
};
inline constexpr size_t form_count = 10;

struct Packing {
  size_t registers, quads;  // of a chunk
  unsigned bits;            // of a code
  // Entries of so many bits are unsigned, and small enough that sums of their products with int8
  // activations fit the 16 bits that some sets sum in:
  //
  //   c4, u7              7 bits:   a pair of products, 2 * 127 * 127 = 32258
  //   c1, c2, c3, u6      6 bits:   two pairs, 4 * 63 * 127 = 32004
  //   g4                  4 bits:   eight pairs, 16 * 15 * 127 = 30480
  //
  // The entries of the others are -127 to 127; a set adds its Kernels::value_offset to them.
  unsigned entry_bits;
  // 32 and 64 in tables. 0: that of the matrix, or of the set where entries are of 8 bits.
  int32_t offset;

  constexpr size_t columns() const { return 4 * quads; }
  constexpr size_t chunks(size_t of_columns) const {
    return (of_columns + columns() - 1) / columns();
  }
};

inline constexpr Packing packings[form_count] = {
    {1, 8, 1, 6, 32}, {1, 4, 2, 6, 32}, {1, 4, 2, 8, 0}, {1, 2, 3, 6, 32}, {1, 2, 4, 7, 64},
    {3, 4, 6, 8, 0},  {1, 2, 4, 4, 0},  {2, 2, 8, 6, 0}, {2, 2, 8, 7, 0},  {2, 2, 8, 8, 0},
};
constexpr const Packing& packing_of(Form form) { return packings[static_cast<size_t>(form)]; }

// Whether entries are looked up; otherwise they are stored.
constexpr bool has_table(Form form) { return form < Form::g4; }

// The bytes of a frame's activations: whole chunks of every form.
inline constexpr size_t padded_to = 32;
constexpr size_t padded(size_t columns) {
  return (columns + padded_to - 1) / padded_to * padded_to;
}

// Reads the code, or the entry, of one quad in a chunk of registers of `width` bytes. `lane` is
// 4 r + c.
inline uint8_t code_at(Form form, const uint8_t* chunk, size_t width, size_t lane, size_t quad) {
  const auto byte = [&](size_t index) -> unsigned { return chunk[index * width + lane]; };
  const unsigned bits = packing_of(form).bits, mask = (1u << bits) - 1;
  if (bits == 8) return static_cast<uint8_t>(byte(quad));
  if (form != Form::c6) return static_cast<uint8_t>(byte(0) >> bits * quad & mask);
  if (quad < 3) return static_cast<uint8_t>(byte(quad) & mask);
  return static_cast<uint8_t>(byte(0) >> 6 | byte(1) >> 6 << 2 | byte(2) >> 6 << 4);
}

// Writes it. The bits must be zero before.
inline void put_code(Form form, uint8_t* chunk, size_t width, size_t lane, size_t quad,
                     uint8_t code) {
  const auto add = [&](size_t index, unsigned value) {
    chunk[index * width + lane] |= static_cast<uint8_t>(value);
  };
  if (packing_of(form).bits == 8) return add(quad, code);
  if (form != Form::c6) return add(0, static_cast<unsigned>(code) << packing_of(form).bits * quad);
  if (quad < 3) return add(quad, code);
  for (size_t i = 0; i < 3; ++i) add(i, static_cast<unsigned>(code >> 2 * i & 3) << 6);
}

// Four blocks of rows form a panel, in which their chunks alternate, so that one frame reads memory
// in one stream. The last panel is padded to four blocks.
inline constexpr size_t panel_blocks = 4;

// The place of a chunk of a block, counted in chunks.
constexpr size_t chunk_at(size_t chunks, size_t block, size_t chunk) {
  const size_t in_panel = block % panel_blocks;
  return (block - in_panel) * chunks + chunk * panel_blocks + in_panel;
}

// An entry of g4 that 4 bits do not hold: what is missing in it. Such a matrix has few of them.
struct Stray {
  uint32_t column : 17;
  uint32_t row : 5;  // of the block
  int32_t more : 10;
};

struct Weights {
  const uint8_t* codes;  // [panels, chunks, panel_blocks, registers, 4 * block_rows]
  const uint8_t* table;  // [64] by code; r2: [row blocks, 4 * block_rows], byte 4 r + code
  const float* scale;    // [row blocks * block_rows]
  size_t rows, chunks;
  int32_t offset;
  const Stray* strays;         // block by block: those of block b are
  const uint32_t* stray_ends;  // [stray_ends[b], stray_ends[b + 1]); null if there are none
};

// Of a block of rows.
inline std::span<const Stray> strays_of(const Weights& w, size_t block) {
  if (!w.stray_ends) return {};
  return {w.strays + w.stray_ends[block], w.strays + w.stray_ends[block + 1]};
}

struct WeightsF32 {
  const float* values;  // [rows, columns]
  size_t rows, columns;
};

// The most frames that a matrix multiplies at once: enough that reading the weights costs little,
// and few enough that the activations stay in the second-level cache and a stream takes little
// memory.
inline constexpr size_t max_frames = 32;

// Frames as int8: x = values * scale.
struct Activations {
  const int8_t* values;  // [frames, stride], -127 to 127; zeros after the columns
  const float* scale;    // [frames]
  const int32_t* sum;    // [frames], of the values
  size_t frames, stride;
  // For strays, where there are several frames, at most max_frames: the same values by columns,
  // [columns, max_frames], and room for a vector more. Else null.
  const int8_t* by_column = nullptr;
};

// What the offset of the entries adds to the sums of a frame. Like the sums of every set it is
// taken modulo 2^32; the result less the offset fits int32.
inline int32_t offset_of(const Weights& w, const Activations& x, size_t frame) {
  return static_cast<int32_t>(static_cast<uint32_t>(w.offset) *
                              static_cast<uint32_t>(x.sum[frame]));
}

// How a layer ends: with min(max(product + bias[row], least), most). Without a bias products stay
// as they are. A NaN stays one.
struct End {
  const float* bias = nullptr;  // [rows]
  float least = -INFINITY, most = INFINITY;

  float operator()(float product, size_t row) const {
    if (!bias) return product;
    const float sum = product + bias[row], above = sum < least ? least : sum;
    return most < above ? most : above;
  }
};

// Row r of frame f of the result is stored in values[f * stride + r].
struct Results {
  float* values;
  size_t stride;
  End end;

  // The results from this row on.
  Results from(size_t row) const {
    return {values + row, stride, {end.bias ? end.bias + row : nullptr, end.least, end.most}};
  }
};

using GemmI8 = void (*)(const Weights& w, const Activations& x, Results y);

struct Kernels {
  const char* isa;
  size_t block_rows;     // rows in a block of weights
  int32_t value_offset;  // added to the entries of r2, c6 and i8

  // By Form; null if i8 is as fast for c6, u6 or u7.
  GemmI8 gemm_i8[form_count];
  void (*gemm_f32)(const WeightsF32& w, const float* x, size_t frames, Results y);

  // Quantizes one frame of `columns` values to int8. The largest magnitude becomes 127; rounds to
  // nearest, ties to even.
  void (*quantize_i8)(const float* x, size_t columns, size_t stride, int8_t* values, float* scale,
                      int32_t* sum);

  // Elementwise, in place. Absolute errors of sigmoid and tanh are below 2e-7.
  void (*sigmoid_f32)(float* x, size_t size);
  void (*tanh_f32)(float* x, size_t size);

  // One step of a recurrent cell. `x` is the input's part of the gates, with the bias, and `h` the
  // hidden state's part; gates in PyTorch's order. `state` is written, and read by the GRU.
  void (*lstm_f32)(const float* x, const float* h, size_t hidden, float* cell, float* state);
  void (*gru_f32)(const float* x, const float* h, const float* bias_hn, size_t hidden,
                  float* state);
  void (*rnn_tanh_f32)(const float* x, const float* h, size_t hidden, float* state);

  // x[i] - log(sum of exp(x)) over `size` values, in place.
  void (*log_softmax_f32)(float* x, size_t size);
};

extern const Kernels kernels_scalar;
#if defined(__x86_64__)
extern const Kernels kernels_ssse3, kernels_avx2, kernels_avxvnni, kernels_avx512, kernels_amx;
#elif defined(__aarch64__)
extern const Kernels kernels_neon, kernels_dotprod;
#elif defined(__wasm_simd128__)
extern const Kernels kernels_simd128;
#endif

// The best set of this processor, or the one that TINYVOX_ISA names. Raises std::runtime_error if
// that one does not exist or cannot run here.
const Kernels& kernels();

// The set of this name; null if there is none, or if the processor cannot run it.
const Kernels* kernels_named(const char* isa);

// The names of the sets that run here, the best first.
size_t kernel_names(const char** names, size_t most);

}  // namespace tinyvox
