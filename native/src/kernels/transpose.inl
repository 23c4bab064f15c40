// Square matrices of numbers, transposed in registers. Included inside an anonymous namespace: each
// instruction set has its own.

// The first or the second halves of two vectors, one value of `a`, one of `b`, and so on.
template <bool second, typename Vector, size_t... i>
inline Vector interleaved(Vector a, Vector b, std::index_sequence<i...>) {
  constexpr size_t size = sizeof...(i);
  return __builtin_shufflevector(a, b, (i / 2 + (second ? size / 2 : 0) + i % 2 * size)...);
}

// Each step moves a bit of a value's row to its column. `size` is a power of two.
template <typename Vector, size_t size>
inline void transpose(Vector (&rows)[size]) {
  constexpr auto all = std::make_index_sequence<size>();
  for (size_t step = 1; step < size; step *= 2) {
    Vector next[size];
#pragma GCC unroll 16
    for (size_t i = 0; i < size / 2; ++i) {
      next[2 * i] = interleaved<false>(rows[i], rows[i + size / 2], all);
      next[2 * i + 1] = interleaved<true>(rows[i], rows[i + size / 2], all);
    }
#pragma GCC unroll 16
    for (size_t i = 0; i < size; ++i) rows[i] = next[i];
  }
}
