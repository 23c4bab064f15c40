// Matrix products, the algorithm once. An instruction set's file includes this inside an anonymous
// namespace after it has defined the primitives:
//
//   Simd::rows, Simd::float_lanes     of a block; of Floats
//   Simd::value_offset                what load adds to the weights
//   Simd::Integers, Simd::Floats      registers; Integers hold a sum for each row of a block
//   Simd::Table, load_table(bytes)    a 16-entry table, ready for lookups
//   unpack_c3, unpack_c4(bytes, table), load(values)  the weights of a block
//   dot(sums, weights, activations)   adds the products with 8 activations
//   store(sums, offset, row scales, frame scale, y)   takes the offset off, scales
//   multiply_add(sums, w, x), total(sums)
//
// A tile keeps its sums in registers: an unpacked block serves all of its frames.

template <int Blocks, int Frames, typename Load>
inline void integer_tile(size_t blocks, Load load, const int8_t* x, size_t x_stride,
                         typename Simd::Integers (&sums)[Blocks][Frames]) {
  for (size_t column = 0; column < blocks; ++column) {
    for (int row = 0; row < Blocks; ++row) {
      const auto weights = load(row, column);
      for (int frame = 0; frame < Frames; ++frame)
        sums[row][frame] =
            Simd::dot(sums[row][frame], weights, x + frame * x_stride + column * block_columns);
    }
  }
}

// Scales a block's sums and stores those of rows that exist.
inline void store_rows(typename Simd::Integers sums, int32_t offset, const float* scale,
                       float frame_scale, size_t rows, float* y) {
  if (rows >= Simd::rows) return Simd::store(sums, offset, scale, frame_scale, y);
  float all[Simd::rows];
  Simd::store(sums, offset, scale, frame_scale, all);
  for (size_t row = 0; row < rows; ++row) y[row] = all[row];
}

// `first` counts blocks of rows. The offset of the weights is taken off each frame's sums.
template <int Blocks, int Frames, typename Load>
inline void tile_i8(const float* scale, size_t rows, int32_t offset, const Activations& x,
                    size_t first, size_t frame, Load load, float* y) {
  const size_t stride = x.blocks * block_columns;
  typename Simd::Integers sums[Blocks][Frames] = {};
  integer_tile<Blocks, Frames>(x.blocks, load, x.values + frame * stride, stride, sums);
  for (int j = 0; j < Frames; ++j)
    for (int i = 0; i < Blocks; ++i) {
      const size_t row = (first + i) * Simd::rows;
      store_rows(sums[i][j], offset * x.sum[frame + j], scale + row, x.scale[frame + j], rows - row,
                 y + (frame + j) * rows + row);
    }
}

template <int Rows, int Frames>
inline void tile_f32(const WeightsF32& w, const float* x, size_t row, size_t frame, float* y) {
  typename Simd::Floats lanes[Rows][Frames] = {};
  const size_t whole = w.columns / Simd::float_lanes * Simd::float_lanes;
  const float* values = w.values + row * w.columns;
  const float* inputs = x + frame * w.columns;
  for (size_t i = 0; i < whole; i += Simd::float_lanes)
    for (int r = 0; r < Rows; ++r)
      for (int f = 0; f < Frames; ++f)
        lanes[r][f] =
            Simd::multiply_add(lanes[r][f], values + r * w.columns + i, inputs + f * w.columns + i);
  for (int r = 0; r < Rows; ++r)
    for (int f = 0; f < Frames; ++f) {
      float sum = Simd::total(lanes[r][f]);
      for (size_t i = whole; i < w.columns; ++i)
        sum += values[r * w.columns + i] * inputs[f * w.columns + i];
      y[(frame + f) * w.rows + row + r] = sum;
    }
}

// Covers rows x frames with tiles: one by `Frames`, by half as many, and so on where there are so
// many frames; by a single frame, four rows at once.
template <int Frames, typename Tile>
inline void cover(size_t rows, size_t frames, Tile tile, size_t frame = 0) {
  for (; frame + Frames <= frames; frame += Frames) {
    size_t row = 0;
    if constexpr (Frames == 1) {
      for (; row + 4 <= rows; row += 4) tile.template operator()<4, 1>(row, frame);
      for (; row + 2 <= rows; row += 2) tile.template operator()<2, 1>(row, frame);
    }
    for (; row < rows; ++row) tile.template operator()<1, Frames>(row, frame);
  }
  if constexpr (Frames > 1) cover<Frames / 2>(rows, frames, tile, frame);
}

template <typename Unpack>
inline void gemm_codes(const Codes& w, const Activations& x, Unpack unpack, float* y) {
  cover<8>((w.rows + Simd::rows - 1) / Simd::rows, x.frames,
           [&]<int Blocks, int Frames>(size_t first, size_t frame) {
             const auto load = [&](int row, size_t column) {
               return unpack(w.codes + ((first + row) * w.blocks + column) * 4 * Simd::rows);
             };
             tile_i8<Blocks, Frames>(w.scale, w.rows, w.offset, x, first, frame, load, y);
           });
}

void gemm_c3_i8(const Codes& w, const Activations& x, float* y) {
  const typename Simd::Table table = Simd::load_table(w.table);
  gemm_codes(w, x, [&](const uint8_t* bytes) { return Simd::unpack_c3(bytes, table); }, y);
}

void gemm_c4_i8(const Codes& w, const Activations& x, float* y) {
  const typename Simd::Table table = Simd::load_table(w.table);
  gemm_codes(w, x, [&](const uint8_t* bytes) { return Simd::unpack_c4(bytes, table); }, y);
}

void gemm_i8_i8(const ValuesI8& w, const Activations& x, float* y) {
  cover<8>((w.rows + Simd::rows - 1) / Simd::rows, x.frames,
           [&]<int Blocks, int Frames>(size_t first, size_t frame) {
             const auto load = [&](int row, size_t column) {
               return Simd::load(w.values + ((first + row) * w.blocks + column) * 8 * Simd::rows);
             };
             tile_i8<Blocks, Frames>(w.scale, w.rows, Simd::value_offset, x, first, frame, load, y);
           });
}

void gemm_f32_f32(const WeightsF32& w, const float* x, size_t frames, float* y) {
  cover<4>(w.rows, frames, [&]<int Rows, int Frames>(size_t row, size_t frame) {
    tile_f32<Rows, Frames>(w, x, row, frame, y);
  });
}
