// Matrix products, the algorithm once. An instruction set's file includes this inside an anonymous
// namespace after it has defined the primitives:
//
//   Simd::Integers, Simd::Floats          registers of 32-bit sums
//   Simd::Table                           a 16-entry table, ready for lookups
//   Simd::Row4, Simd::Row8                the 64 weights of a block, unpacked
//   load_table(bytes), unpack(bytes, table) -> Row4, load(values) -> Row8
//   dot(sums, Row, activations)           adds 64 products
//   total(sums)                           the sum of all lanes
//   multiply_add(sums, w, x), float_lanes
//
// A tile of Rows x Frames sums stays in registers: an unpacked block serves all of its frames, a
// loaded block of activations all of its rows.

template <typename Row, int Rows, int Frames, typename Load>
inline void integer_tile(size_t blocks, Load load_row, const int8_t* x, size_t x_stride,
                         int32_t (&sums)[Rows][Frames]) {
  typename Simd::Integers lanes[Rows][Frames] = {};
  for (size_t block = 0; block < blocks; ++block) {
    for (int row = 0; row < Rows; ++row) {
      const Row weights = load_row(row, block);
      for (int frame = 0; frame < Frames; ++frame)
        lanes[row][frame] =
            Simd::dot(lanes[row][frame], weights, x + frame * x_stride + block * block_columns);
    }
  }
  for (int row = 0; row < Rows; ++row)
    for (int frame = 0; frame < Frames; ++frame)
      sums[row][frame] = Simd::total(lanes[row][frame]);
}

template <int Rows, int Frames>
inline void tile_c4(const CodesC4& w, const Activations& x, size_t row, size_t frame, float* y) {
  const typename Simd::Table table = Simd::load_table(w.table);
  const size_t stride = x.blocks * block_columns;
  int32_t sums[Rows][Frames];
  integer_tile<typename Simd::Row4, Rows, Frames>(
      w.blocks,
      [&](int i, size_t block) {
        return Simd::unpack(w.codes + ((row + i) * w.blocks + block) * 32, table);
      },
      x.values + frame * stride, stride, sums);
  for (int i = 0; i < Rows; ++i)
    for (int j = 0; j < Frames; ++j)
      y[(frame + j) * w.rows + row + i] = static_cast<float>(sums[i][j] - 64 * x.sum[frame + j]) *
                                          w.scale[row + i] * x.scale[frame + j];
}

template <int Rows, int Frames>
inline void tile_i8(const CodesI8& w, const Activations& x, size_t row, size_t frame, float* y) {
  const size_t stride = x.blocks * block_columns;
  int32_t sums[Rows][Frames];
  integer_tile<typename Simd::Row8, Rows, Frames>(
      w.blocks,
      [&](int i, size_t block) { return Simd::load(w.values + (row + i) * stride + block * 64); },
      x.values + frame * stride, stride, sums);
  for (int i = 0; i < Rows; ++i)
    for (int j = 0; j < Frames; ++j)
      y[(frame + j) * w.rows + row + i] =
          static_cast<float>(sums[i][j]) * w.scale[row + i] * x.scale[frame + j];
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

// Covers rows x frames with tiles: 2 x 4 where there are four frames, else 4 x 1, else 1 x 1.
template <typename Tile>
inline void cover(size_t rows, size_t frames, Tile tile) {
  size_t frame = 0;
  for (; frame + 4 <= frames; frame += 4) {
    size_t row = 0;
    for (; row + 2 <= rows; row += 2) tile.template operator()<2, 4>(row, frame);
    for (; row < rows; ++row) tile.template operator()<1, 4>(row, frame);
  }
  for (; frame < frames; ++frame) {
    size_t row = 0;
    for (; row + 4 <= rows; row += 4) tile.template operator()<4, 1>(row, frame);
    for (; row < rows; ++row) tile.template operator()<1, 1>(row, frame);
  }
}

void gemm_c4_i8(const CodesC4& w, const Activations& x, float* y) {
  cover(w.rows, x.frames,
        [&]<int Rows, int Frames>(size_t r, size_t f) { tile_c4<Rows, Frames>(w, x, r, f, y); });
}

void gemm_i8_i8(const CodesI8& w, const Activations& x, float* y) {
  cover(w.rows, x.frames,
        [&]<int Rows, int Frames>(size_t r, size_t f) { tile_i8<Rows, Frames>(w, x, r, f, y); });
}

void gemm_f32_f32(const WeightsF32& w, const float* x, size_t frames, float* y) {
  cover(w.rows, frames,
        [&]<int Rows, int Frames>(size_t r, size_t f) { tile_f32<Rows, Frames>(w, x, r, f, y); });
}
