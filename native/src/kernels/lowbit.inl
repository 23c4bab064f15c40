// Matrix products: the algorithm, written once. The file of an instruction set includes this inside
// an anonymous namespace after it has defined the primitives:
//
//   Simd::rows, float_lanes            rows of a block; lanes of Floats
//   Simd::sums                         number of registers that are free for sums
//   Simd::Integers, Floats             registers; Integers hold one sum for each row of a block
//   Simd::Lookup<form>(bytes)          the table of Weights::table, or of a block of rows (r2)
//   Simd::unpack<form, i>(bytes, lookup)   entries of quads 2 i and 2 i + 1 of a chunk
//   Simd::dot(sums, more, entries, x)  adds the products with 8 activations: of the first quad to
//                                      `sums`, of the second to `more`, which may be the same
//   Simd::run<form>                    chunks whose products `dot` sums in 16 bits; 1: in 32 bits
//   Simd::widen(sums, narrow)          adds such sums of 16 bits to those of 32
//   Simd::add(a, b)                    adds Integers
//   Simd::scaled(sums, offset, row scales, frame scale)    subtracts the offset, gives Floats
//   Simd::ended(products, end, row)    the end of a layer that has a bias, on Floats
//   Simd::store(values, y), multiply_add(sums, w, x), total(sums)      on Floats
//
// A tile is some rows times some frames, whose sums stay in registers; for that, its loops over
// rows and frames are unrolled. Unpacked weights are used for all frames of the tile, and an
// activation for all of its rows.

#include "kernels/transpose.inl"

// Bytes of weights that fit a second-level cache beside the activations. So many rows are
// multiplied by all frames before the next rows are read.
constexpr size_t cached_bytes = size_t{1} << 18;
// How far ahead weights are prefetched for a single frame, whose speed depends on memory alone.
constexpr size_t prefetch_bytes = 2048;

// Scales the sums of the block of rows that begins at `row`, ends the layer, and stores the rows
// that exist.
inline void store_block(typename Simd::Integers sums, const Weights& w, const Activations& x,
                        size_t row, size_t frame, const Results& y) {
  const auto products = Simd::scaled(sums, offset_of(w, x, frame), w.scale + row, x.scale[frame]);
  float* to = y.values + frame * y.stride + row;
  if (w.rows - row >= Simd::rows) {
    Simd::store(y.end.bias ? Simd::ended(products, y.end, row) : products, to);
    return;
  }
  float some[Simd::rows];
  Simd::store(products, some);
  for (size_t r = 0; row + r < w.rows; ++r) to[r] = y.end(some[r], row + r);
}

// Of a sum that is kept in one or two parts.
template <size_t parts>
inline auto total(const typename Simd::Integers (&sums)[parts]) {
  return parts == 2 ? Simd::add(sums[0], sums[parts - 1]) : sums[0];
}

// Adds the products that the strays of a block leave out of the sums of its rows, for one frame.
inline void add_strays(typename Simd::Integers& sums, std::span<const Stray> strays,
                       const int8_t* values) {
  uint32_t rows[Simd::rows];
  __builtin_memcpy(rows, &sums, sizeof rows);
  for (const Stray stray : strays)
    rows[stray.row] += static_cast<uint32_t>(stray.more * values[stray.column]);
  __builtin_memcpy(static_cast<void*>(&sums), rows, sizeof rows);
}

// The same for the frames of a tile, sums [frames, blocks], as many at once as a block has rows: a
// stray is multiplied by all of them, and what is missing, [rows, frames], is turned before it is
// added. What is computed for frames after those of the tile is left out.
inline void add_strays_by_column(typename Simd::Integers* sums, int blocks, int frames,
                                 std::span<const Stray> strays, const Activations& x,
                                 size_t frame) {
  using Lanes [[gnu::vector_size(4 * Simd::rows)]] = uint32_t;
  using Bytes [[gnu::vector_size(Simd::rows)]] = int8_t;
  for (; frames > 0; frames -= Simd::rows, frame += Simd::rows, sums += Simd::rows * blocks) {
    Lanes missing[Simd::rows] = {};
    for (const Stray stray : strays) {
      Bytes values;
      __builtin_memcpy(&values, x.by_column + stray.column * max_frames + frame, sizeof values);
      missing[stray.row] +=
          static_cast<uint32_t>(stray.more) * __builtin_convertvector(values, Lanes);
    }
    transpose(missing);
    for (int f = 0; f < frames && f < static_cast<int>(Simd::rows); ++f) {
      Lanes total;
      __builtin_memcpy(&total, sums + f * blocks, sizeof total);
      total += missing[f];
      __builtin_memcpy(static_cast<void*>(sums + f * blocks), &total, sizeof total);
    }
  }
}

// Stores the rows of a tile that exist, sums [frames, blocks].
[[gnu::noinline]] void store_tile(typename Simd::Integers* sums, int blocks, int frames,
                                  const Weights& w, const Activations& x, size_t block,
                                  size_t frame, const Results& y) {
  for (int b = 0; w.stray_ends && b < blocks && (block + b) * Simd::rows < w.rows; ++b) {
    const std::span<const Stray> strays = strays_of(w, block + b);
    if (x.by_column && frames > 1) {
      add_strays_by_column(sums + b, blocks, frames, strays, x, frame);
      continue;
    }
    for (int f = 0; f < frames; ++f)
      add_strays(sums[f * blocks + b], strays, x.values + (frame + f) * x.stride);
  }
  for (int f = 0; f < frames; ++f)
    for (int b = 0; b < blocks; ++b, ++sums)
      if (const size_t row = (block + b) * Simd::rows; row < w.rows)
        store_block(*sums, w, x, row, frame + f, y);
}

// `block` is the first of `Blocks` blocks of rows of a panel, `frame` the first of `Frames` frames.
template <Form form, int Blocks, int Frames>
inline void tile_i8(const Weights& w, const Activations& x, size_t block, size_t frame, Results y) {
  constexpr Packing packing = packing_of(form);
  constexpr size_t width = 4 * Simd::rows, chunk_bytes = packing.registers * width;
  // With few sums each addition would wait for the one before; then each sum is kept in two parts.
  constexpr size_t run = Simd::template run<form>;
  constexpr int halves = Blocks * Frames * 2 <= Simd::sums && run == 1 ? 2 : 1;
  static_assert(Frames > 1 || halves == 2 || run > 1);
  constexpr int tables = form == Form::r2 ? Blocks : 1;

  typename Simd::template Lookup<form> lookups[tables];
  for (int i = 0; i < tables; ++i)
    lookups[i] = typename Simd::template Lookup<form>(w.table +
                                                      (form == Form::r2 ? (block + i) * width : 0));
  const uint8_t* codes = w.codes + chunk_at(w.chunks, block, 0) * chunk_bytes;
  const int8_t* values = x.values + frame * x.stride;
  typename Simd::Integers sums[Blocks][Frames][halves] = {};

  const auto pair = [&]<int i>(const uint8_t* chunk, const int8_t* inputs, auto& to) {
#pragma GCC unroll 16
    for (int b = 0; b < Blocks; ++b) {
      const auto entries =
          Simd::template unpack<form, i>(chunk + b * chunk_bytes, lookups[tables > 1 ? b : 0]);
#pragma GCC unroll 16
      for (int f = 0; f < Frames; ++f)
        Simd::dot(to[b][f][0], to[b][f][halves - 1], entries, inputs + f * x.stride + 8 * i);
    }
  };
  const auto one_chunk = [&](size_t c, auto& to) {
    const uint8_t* chunk = codes + c * panel_blocks * chunk_bytes;
    const int8_t* inputs = values + c * packing.columns();
    if constexpr (Frames == 1)
#pragma GCC unroll 16
      for (int b = 0; b < Blocks; ++b)
        for (size_t i = 0; i < chunk_bytes; i += 64)
          __builtin_prefetch(chunk + b * chunk_bytes + prefetch_bytes + i);
    pair.template operator()<0>(chunk, inputs, to);
    if constexpr (packing.quads > 2) pair.template operator()<1>(chunk, inputs, to);
    if constexpr (packing.quads > 4) {
      pair.template operator()<2>(chunk, inputs, to);
      pair.template operator()<3>(chunk, inputs, to);
    }
  };
  if constexpr (run == 1)
    for (size_t c = 0; c < w.chunks; ++c) one_chunk(c, sums);
  else
    for (size_t c = 0; c < w.chunks;) {
      const size_t last = w.chunks - c < run ? w.chunks : c + run;
      typename Simd::Integers narrow[Blocks][Frames][halves] = {};
      for (; c < last; ++c) one_chunk(c, narrow);
#pragma GCC unroll 16
      for (int b = 0; b < Blocks; ++b)
#pragma GCC unroll 16
        for (int f = 0; f < Frames; ++f)
          sums[b][f][0] = Simd::widen(sums[b][f][0], narrow[b][f][0]);
    }
  const size_t row = block * Simd::rows;
  if (Frames == 1 && !y.end.bias && !w.stray_ends && row + Blocks * Simd::rows <= w.rows) {
#pragma GCC unroll 16
    for (int b = 0; b < Blocks; ++b)
      Simd::store(Simd::scaled(total(sums[b][0]), offset_of(w, x, frame),
                               w.scale + row + b * Simd::rows, x.scale[frame]),
                  y.values + frame * y.stride + row + b * Simd::rows);
    return;
  }
  typename Simd::Integers all[Frames * Blocks];
#pragma GCC unroll 16
  for (int f = 0; f < Frames; ++f)
#pragma GCC unroll 16
    for (int b = 0; b < Blocks; ++b) all[f * Blocks + b] = total(sums[b][f]);
  store_tile(all, Blocks, Frames, w, x, block, frame, y);
}

// Covers rows x frames with tiles: first of as many frames as there are sums, then of a quarter of
// the frames and four times the rows, and so on. `Padded` rows exist in memory up to a whole tile.
template <int Frames, int Sums, bool Padded, typename Tile>
inline void cover(size_t first, size_t last, size_t frames, Tile tile, size_t frame = 0) {
  constexpr int Rows = Sums / Frames < 4 ? Sums / Frames : 4;
  for (; frame + Frames <= frames; frame += Frames) {
    size_t row = first;
    for (; Padded ? row < last : row + Rows <= last; row += Rows)
      tile.template operator()<Rows, Frames>(row, frame);
    if constexpr (Rows > 1 && !Padded)
      for (; row < last; ++row) tile.template operator()<1, Frames>(row, frame);
  }
  if constexpr (Frames > 1)
    cover<(Frames > 4 ? 4 : 1), Sums, Padded>(first, last, frames, tile, frame);
}

template <Form form>
void gemm_i8(const Weights& w, const Activations& x, Results y) {
  const size_t blocks = (w.rows + Simd::rows - 1) / Simd::rows;
  const size_t bytes = w.chunks * packing_of(form).registers * 4 * Simd::rows;
  const size_t some = (cached_bytes / (bytes + 1) / panel_blocks + 1) * panel_blocks;
  for (size_t first = 0; first < blocks; first += some)
    cover<Simd::sums, Simd::sums, true>(first, first + some < blocks ? first + some : blocks,
                                        x.frames,
                                        [&]<int Blocks, int Frames>(size_t block, size_t frame) {
                                          tile_i8<form, Blocks, Frames>(w, x, block, frame, y);
                                        });
}

template <int Rows, int Frames>
inline void tile_f32(const WeightsF32& w, const float* x, size_t row, size_t frame, Results y) {
  typename Simd::Floats lanes[Rows][Frames] = {};
  const size_t whole = w.columns / Simd::float_lanes * Simd::float_lanes;
  const float* values = w.values + row * w.columns;
  const float* inputs = x + frame * w.columns;
  for (size_t i = 0; i < whole; i += Simd::float_lanes)
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 16
      for (int f = 0; f < Frames; ++f)
        lanes[r][f] =
            Simd::multiply_add(lanes[r][f], values + r * w.columns + i, inputs + f * w.columns + i);
  float totals[Rows][Frames];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 16
    for (int f = 0; f < Frames; ++f) totals[r][f] = Simd::total(lanes[r][f]);
  for (int r = 0; r < Rows; ++r)
    for (int f = 0; f < Frames; ++f) {
      float sum = totals[r][f];
      for (size_t i = whole; i < w.columns; ++i)
        sum += values[r * w.columns + i] * inputs[f * w.columns + i];
      y.values[(frame + f) * y.stride + row + r] = y.end(sum, row + r);
    }
}

void gemm_f32(const WeightsF32& w, const float* x, size_t frames, Results y) {
  const size_t some = cached_bytes / (4 * w.columns + 1) / 4 * 4 + 4;
  for (size_t first = 0; first < w.rows; first += some)
    cover<4, 16, false>(first, first + some < w.rows ? first + some : w.rows, frames,
                        [&]<int Rows, int Frames>(size_t row, size_t frame) {
                          tile_f32<Rows, Frames>(w, x, row, frame, y);
                        });
}

// All kernels of a set. `chosen` says of c6, u6 and u7 which the set has.
struct Chosen {
  bool c6, u6, u7;
};
template <Chosen chosen>
constexpr Kernels all_kernels(const char* isa, int32_t value_offset) {
  Kernels all{isa,
              Simd::rows,
              value_offset,
              {gemm_i8<Form::c1>, gemm_i8<Form::c2>, gemm_i8<Form::r2>, gemm_i8<Form::c3>,
               gemm_i8<Form::c4>},
              gemm_f32,
              quantize_i8,
              sigmoid_f32,
              tanh_f32,
              lstm_f32,
              gru_f32,
              rnn_tanh_f32,
              log_softmax_f32};
  const auto set = [&]<Form form>() { all.gemm_i8[static_cast<size_t>(form)] = gemm_i8<form>; };
  if constexpr (chosen.c6) set.template operator()<Form::c6>();
  set.template operator()<Form::g4>();
  if constexpr (chosen.u6) set.template operator()<Form::u6>();
  if constexpr (chosen.u7) set.template operator()<Form::u7>();
  set.template operator()<Form::i8>();
  return all;
}
