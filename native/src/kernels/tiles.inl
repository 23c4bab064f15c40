// Matrix products in the tile registers of AMX, for the file of AVX-512: what unpacks weights and
// ends a layer is the same. A block of weights is 16 rows, and a quad of it is what a row of a tile
// holds: four columns of each. So 16 quads are the weights of a tile as they are unpacked, and 16
// frames of activations are the other as they lie in memory.

// Of weights and frames: two tiles of each, and the four of their sums.
constexpr size_t tile_rows = 16, tile_bytes = 64, tile_blocks = 2, tile_frames = 2 * tile_rows;
// A tile is read whole, so few frames are faster without tiles.
constexpr size_t least_tile_frames = 5;

// The operand of ldtilecfg.
struct alignas(64) TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};

// The tiles: 0 to 3 are sums [frames, blocks], 4 and 5 frames, 6 and 7 weights. With at most 16
// frames the later ones of frames and sums have one row, which nobody looks at.
inline TileShapes shapes_for(size_t frames) {
  TileShapes shapes;
  const auto first = static_cast<uint8_t>(frames < tile_rows ? frames : tile_rows);
  const auto second = static_cast<uint8_t>(frames > tile_rows ? frames - tile_rows : 1);
  const uint8_t rows[] = {first, first, second, second, first, second, tile_rows, tile_rows};
  for (size_t i = 0; i < 8; ++i) {
    shapes.rows[i] = rows[i];
    shapes.bytes[i] = tile_bytes;
  }
  return shapes;
}

// The quads of a block from `chunk` on, of so many chunks; zeros after them.
template <Form form>
inline void unpack_tile(const Weights& w, size_t block, size_t chunk, size_t chunks,
                        const typename Simd::template Lookup<form>& lookup, uint8_t* to) {
  constexpr Packing packing = packing_of(form);
  constexpr size_t bytes = packing.registers * tile_bytes;
  const uint8_t* end = to + tile_rows * tile_bytes;
  const uint8_t* codes = w.codes + chunk_at(w.chunks, block, chunk) * bytes;
  const auto pair = [&]<int i> {
    const auto entries = Simd::template unpack<form, i>(codes, lookup);
    _mm512_store_si512(to, entries.first);
    _mm512_store_si512(to + tile_bytes, entries.second);
    to += 2 * tile_bytes;
  };
  for (size_t c = 0; c < chunks; ++c, codes += panel_blocks * bytes) {
    pair.template operator()<0>();
    if constexpr (packing.quads > 2) pair.template operator()<1>();
    if constexpr (packing.quads > 4) {
      pair.template operator()<2>();
      pair.template operator()<3>();
    }
  }
  for (; to < end; to += tile_bytes) _mm512_store_si512(to, _mm512_setzero_si512());
}

// What the intrinsics do not tell the compiler: that tiles are read from memory.
inline void memory_is_written() { asm volatile("" ::: "memory"); }

// The frames of one product: [frames, stride], and what follows the last whole tile of columns,
// [frames, tile_bytes] with zeros after it.
struct TileInputs {
  const int8_t* values;
  size_t stride, frames;
  alignas(64) int8_t last[tile_frames * tile_bytes];

  TileInputs(const Activations& x, size_t frame, size_t count, size_t whole)
      : values(x.values + frame * x.stride), stride(x.stride), frames(count) {
    if (whole >= stride) return;
    for (size_t f = 0; f < frames; ++f)
      for (size_t i = 0; i < tile_bytes; ++i)
        last[f * tile_bytes + i] = whole + i < stride ? values[f * stride + whole + i] : int8_t{0};
  }
};

// Adds the products of 64 columns.
inline void multiply_tiles(const int8_t* x, size_t stride, bool second_frames,
                           const uint8_t* weights) {
  memory_is_written();
  _tile_loadd(6, weights, tile_bytes);
  _tile_loadd(7, weights + tile_rows * tile_bytes, tile_bytes);
  _tile_loadd(4, x, stride);
  _tile_dpbsud(0, 4, 6);
  _tile_dpbsud(1, 4, 7);
  if (!second_frames) return;
  _tile_loadd(5, x + tile_rows * stride, stride);
  _tile_dpbsud(2, 5, 6);
  _tile_dpbsud(3, 5, 7);
}

// Two blocks of rows from `block` on times at most 32 frames.
template <Form form>
inline void tile_pair(const Weights& w, const TileInputs& x, size_t block,
                      typename Simd::Integers* sums) {
  constexpr size_t at_once = tile_rows / packing_of(form).quads;  // chunks
  constexpr size_t bytes = tile_rows * tile_bytes;
  constexpr size_t tables = form == Form::r2 ? tile_bytes : 0;
  const typename Simd::template Lookup<form> lookups[] = {
      typename Simd::template Lookup<form>(w.table + block * tables),
      typename Simd::template Lookup<form>(w.table + (block + 1) * tables)};
  // Of the weights that are multiplied, and of those that are unpacked meanwhile.
  alignas(64) uint8_t unpacked[2][tile_blocks * bytes];
  const bool second = x.frames > tile_rows;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const auto unpack = [&](size_t chunk, uint8_t* to) {
    const size_t chunks = w.chunks - chunk < at_once ? w.chunks - chunk : at_once;
    for (size_t b = 0; b < tile_blocks; ++b)
      unpack_tile<form>(w, block + b, chunk, chunks, lookups[b], to + b * bytes);
  };
  unpack(0, unpacked[0]);
  for (size_t chunk = 0, turn = 0; chunk < w.chunks; chunk += at_once, turn ^= 1) {
    if (chunk + at_once < w.chunks) unpack(chunk + at_once, unpacked[turn ^ 1]);
    const size_t column = chunk * packing_of(form).columns();
    const bool whole = column + tile_bytes <= x.stride;
    multiply_tiles(whole ? x.values + column : x.last, whole ? x.stride : tile_bytes, second,
                   unpacked[turn]);
  }
  constexpr size_t apart = tile_blocks * sizeof *sums;
  _tile_stored(0, sums, apart);
  _tile_stored(1, sums + 1, apart);
  if (!second) return;
  _tile_stored(2, sums + tile_rows * tile_blocks, apart);
  _tile_stored(3, sums + tile_rows * tile_blocks + 1, apart);
}

template <Form form>
void tile_gemm_i8(const Weights& w, const Activations& x, Results y) {
  if (x.frames < least_tile_frames) return gemm_i8<form>(w, x, y);
  const size_t blocks = (w.rows + Simd::rows - 1) / Simd::rows;
  for (size_t frame = 0; frame < x.frames; frame += tile_frames) {
    const size_t frames = x.frames - frame < tile_frames ? x.frames - frame : tile_frames;
    const TileInputs inputs(x, frame, frames, x.stride / tile_bytes * tile_bytes);
    const TileShapes shapes = shapes_for(frames);
    memory_is_written();
    _tile_loadconfig(&shapes);
    for (size_t block = 0; block < blocks; block += tile_blocks) {
      typename Simd::Integers sums[tile_frames * tile_blocks];
      tile_pair<form>(w, inputs, block, sums);
      store_tile(sums, tile_blocks, static_cast<int>(frames), w, x, block, frame, y);
    }
  }
  _tile_release();
}

// The kernels of AVX-512, but for these.
constexpr Kernels with_tiles(Kernels all) {
  all.isa = "amx";
  const auto set = [&]<Form form>() {
    all.gemm_i8[static_cast<size_t>(form)] = tile_gemm_i8<form>;
  };
  set.template operator()<Form::c1>();
  set.template operator()<Form::c2>();
  set.template operator()<Form::r2>();
  set.template operator()<Form::c3>();
  set.template operator()<Form::c4>();
  set.template operator()<Form::c6>();
  set.template operator()<Form::g4>();
  set.template operator()<Form::i8>();
  return all;
}
