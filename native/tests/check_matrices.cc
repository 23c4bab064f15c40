// Products of matrices, coded and dense, as the packer makes them for each instruction set.
#include "kernel_checks.h"
#include "matrix.h"

namespace tinyvox {
namespace {

constexpr size_t frame_counts[] = {1, 2, 3, 4, 5, 8, 15, 16, 17, 31, max_frames};

struct Kind {
  const char* form;
  uint32_t entries;
  bool by_row = false;  // a table, or the zero of a grid, for each row
  bool grid = false;
};

constexpr Kind kinds[] = {
    {"c1", 2},
    {"c2", 3},
    {"c2", 4},
    {"r2", 2, true},
    {"r2", 4, true},
    {"c3", 8},
    {"c4", 9},
    {"c4", 16},
    {"c6", 17},
    {"c6", 64},
    {"i8", 256},
    {"i8 by row", 5, true},
    {"c1 of a grid", 2, false, true},
    {"c2 of a grid", 3, false, true},
    {"g4", 5, false, true},
    {"g4", 16, false, true},
    {"u6", 17, false, true},
    {"u6", 64, false, true},
    {"u7", 65, false, true},
    {"u7", 128, false, true},
    {"i8 of a grid", 200, false, true},
    {"u6 by row", 32, true, true},
    {"u7 by row", 64, true, true},
};

Tensor empty(TensorKind kind, size_t rows, size_t columns) {
  Tensor tensor;
  tensor.kind = kind;
  tensor.rows = static_cast<uint32_t>(rows);
  tensor.columns = static_cast<uint32_t>(columns);
  return tensor;
}

Tensor coded(const Kind& kind, size_t rows, size_t columns) {
  Tensor tensor = empty(TensorKind::coded, rows, columns);
  tensor.entries = kind.entries;
  tensor.groups = kind.by_row ? std::min(tensor.rows, 256u) : 1;
  for (size_t row = 0; row < rows; ++row) {
    tensor.scale.push_back(uniform(0.1f, 2));
    if (kind.by_row) tensor.group.push_back(static_cast<uint8_t>(row % tensor.groups));
  }
  if (kind.grid) {
    tensor.codebook = CodebookKind::grid;
    tensor.groups = 1;
    tensor.group.clear();
    for (size_t i = 0; i < (kind.by_row ? rows : 1); ++i)
      tensor.zero.push_back(
          static_cast<uint8_t>(kind.by_row ? bits() % kind.entries : kind.entries / 2));
  } else {
    tensor.levels = uniforms(tensor.groups * kind.entries, 1);
  }
  tensor.codes.resize(rows * columns);
  for (uint8_t& code : tensor.codes) code = static_cast<uint8_t>(bits() % kind.entries);
  return tensor;
}

Threads alone(1), three(3);

Values multiply(const PackedMatrix& matrix, const Values& x, size_t frames,
                Threads& threads = alone) {
  MatrixWork work(threads);
  matrix.reserve(work);
  Values y(frames * matrix.rows());
  matrix.apply(x.data(), frames, y.data(), work);
  return y;
}

// A frame gives the same result with any number of frames and of threads.
void check_frames(const Case& now, const PackedMatrix& matrix, const Values& x,
                  const Values& expected) {
  for (size_t frames : frame_counts)
    if (frames <= now.frames)
      expect_same({now.set, now.what, now.rows, now.columns, frames}, multiply(matrix, x, frames),
                  expected);
  expect_same({now.set, now.what + " by threads", now.rows, now.columns, now.frames},
              multiply(matrix, x, now.frames, three), expected);
}

void check_coded(const Kernels& set, const Kind& kind, size_t rows, size_t columns,
                 size_t frames = max_frames) {
  const Tensor tensor = coded(kind, rows, columns);
  const Values x = uniforms(frames * columns, 3);
  check_frames({set, kind.form, rows, columns, frames}, Packer(set).pack(tensor), x,
               multiply(Packer(kernels_scalar).pack(tensor), x, frames));
}

// The input in 16 bits: two products of int8, of which the second is some hundred times smaller.
void check_fine(const Kernels& set, const Kind& kind, size_t rows, size_t columns) {
  Tensor tensor = coded(kind, rows, columns);
  const Values x = uniforms(max_frames * columns, 3);
  const Values coarse = multiply(Packer(kernels_scalar).pack(tensor), x, max_frames);
  tensor.fine_input = true;
  const Case now{set, kind.form + std::string(" of fine inputs"), rows, columns, max_frames};
  const Values expected = multiply(Packer(kernels_scalar).pack(tensor), x, max_frames);
  if (expected == coarse) fail_case(now, 0, expected[0], coarse[0]);
  check_frames(now, Packer(set).pack(tensor), x, expected);
}

void check_dense(const Kernels& set, size_t rows, size_t columns) {
  Tensor tensor = empty(TensorKind::dense, rows, columns);
  tensor.values = uniforms(rows * columns, 1);
  const Values x = uniforms(max_frames * columns, 3);
  const Case now{set, "f32", rows, columns, max_frames};
  const PackedMatrix matrix = Packer(set).pack(tensor);
  const Values found = multiply(matrix, x, max_frames);
  for (size_t i = 0; i < found.size(); ++i) {
    double exact = 0, magnitude = 0;
    for (size_t j = 0; j < columns; ++j) {
      const double w = tensor.values[i % rows * columns + j];
      exact += w * x[i / rows * columns + j];
      magnitude += std::abs(w * x[i / rows * columns + j]);
    }
    // Higham: |error| <= n u / (1 - n u) * sum |w x|
    expect_within(now, i, found[i], exact, static_cast<double>(columns) * 0x1.02p-24 * magnitude);
  }
  check_frames(now, matrix, x, found);
}

// Rows that are packed as several matrices, as for gates and for groups of a convolution.
void check_parts(const Kernels& set, const Kind& kind) {
  constexpr size_t parts = 3, rows = 11, columns = 70;
  const Tensor tensor = coded(kind, parts * rows, columns);
  const Values x = uniforms(columns, 3);
  Values found;
  for (const PackedMatrix& part : Packer(set).split_rows(tensor, parts))
    for (float value : multiply(part, x, 1)) found.push_back(value);
  expect_same({set, kind.form + std::string(" in parts"), rows, columns, 1}, found,
              multiply(Packer(kernels_scalar).pack(tensor), x, 1));
}

// Every product of an entry and an activation: a row for each code, a frame for each activation.
// 127 in the second column, whose weights are zero, makes the scale of a frame 1.
void check_products(const Kernels& set, const Kind& kind) {
  Tensor tensor = coded({kind.form, kind.entries, false, true}, kind.entries, 2);
  tensor.scale.assign(kind.entries, 1.0f);
  for (uint32_t code = 0; code < kind.entries; ++code) {
    tensor.codes[2 * code] = static_cast<uint8_t>(code);
    tensor.codes[2 * code + 1] = tensor.zero[0];
  }
  const PackedMatrix matrix = Packer(set).pack(tensor);
  for (int activation = -127; activation <= 127; ++activation) {
    const Values found = multiply(matrix, {static_cast<float>(activation), 127}, 1);
    for (uint32_t code = 0; code < kind.entries; ++code)
      expect_within({set, kind.form + std::string(", every product"), kind.entries, 2, 1}, code,
                    found[code], (static_cast<int>(code) - tensor.zero[0]) * activation, 0);
  }
}

// Codes of a grid of which all but a few lie within 16: of large matrices the others are listed.
void check_strays(const Kernels& set, uint32_t entries) {
  const Kind kind{"g4 with strays", entries, false, true};
  Tensor tensor = coded(kind, 1030, 257);
  for (uint8_t& code : tensor.codes)
    code = static_cast<uint8_t>(bits() % 300 == 0 ? bits() % entries : entries / 2 - bits() % 16);
  const Values x = uniforms(max_frames * tensor.columns, 3);
  for (bool fine : {false, true}) {
    tensor.fine_input = fine;
    check_frames({set, kind.form, tensor.rows, tensor.columns, max_frames},
                 Packer(set).pack(tensor), x,
                 multiply(Packer(kernels_scalar).pack(tensor), x, max_frames));
  }
}

// A layer that ends with a bias and limits, against the same done to the products.
void check_end(const Kernels& set, const Kind& kind, size_t rows, bool fine) {
  constexpr size_t columns = 70, frames = 18;
  Tensor tensor = coded(kind, rows, columns);
  tensor.fine_input = fine;
  const Values x = uniforms(frames * columns, 3), bias = uniforms(rows, 5);
  const PackedMatrix matrix = Packer(set).pack(tensor);
  for (const End& end :
       {End{bias.data()}, End{bias.data(), 0, 2}, End{bias.data(), -1, INFINITY}}) {
    Values expected = multiply(matrix, x, frames), found(expected.size());
    for (size_t i = 0; i < expected.size(); ++i)
      expected[i] = std::min(std::max(expected[i] + bias[i % rows], end.least), end.most);
    for (size_t some : {size_t{1}, frames}) {
      MatrixWork work(alone);
      matrix.reserve(work);
      for (size_t first = 0; first < frames; first += some)
        matrix.apply(x.data() + first * columns, some, found.data() + first * rows, work, end);
      expect_same({set, kind.form + std::string(" with an end"), rows, columns, some}, found,
                  expected);
    }
  }
}

// The end of a NaN is NaN; of infinities what the limits say.
void check_hostile_end(const Kernels& set) {
  constexpr size_t rows = 40;
  const Tensor tensor = coded(kinds[0], rows, 8);
  Values bias(rows, NAN), y(rows);
  bias[1] = INFINITY, bias[2] = -INFINITY;
  MatrixWork work(alone);
  const PackedMatrix matrix = Packer(set).pack(tensor);
  matrix.reserve(work);
  matrix.apply(uniforms(8, 1).data(), 1, y.data(), work, {bias.data(), 0, 20});
  for (size_t i = 0; i < rows; ++i)
    if (i == 1 || i == 2 ? y[i] != (i == 1 ? 20 : 0) : !std::isnan(y[i]))
      fail_case({set, "the end of a NaN", rows, 8, 1}, i, y[i], bias[i]);
}

// The same frame again and again gives the same: sets take other ways with several frames.
void check_again(const Case& now, const PackedMatrix& matrix, const Values& x,
                 const Values& expected) {
  constexpr size_t frames = 17;
  Values many, results;
  for (size_t frame = 0; frame < frames; ++frame) {
    many.insert(many.end(), x.begin(), x.end());
    results.insert(results.end(), expected.begin(), expected.end());
  }
  expect_same({now.set, now.what, now.rows, now.columns, frames}, multiply(matrix, many, frames),
              results);
}

// The same of a grid: its first and its last code, whichever sign they have.
void check_largest_grid(const Kernels& set, const Kind& kind) {
  constexpr size_t rows = 9;
  Tensor tensor = coded(kind, rows, max_columns);
  tensor.scale.assign(rows, 1.0f);
  const uint32_t last = kind.entries - 1;
  for (int activations : {1, -1, 0}) {
    Values x(max_columns, static_cast<float>(activations));
    for (size_t i = 0; i < max_columns; ++i) {
      if (activations == 0) x[i] = bits() & 1 ? 1.0f : -1.0f;
      for (size_t row = 0; row < rows; ++row)
        tensor.codes[row * max_columns + i] =
            static_cast<uint8_t>((x[i] > 0) == (row % 2) ? last : 0);
    }
    const Case now{set, kind.form + std::string(" at its largest"), rows, max_columns, 1};
    const PackedMatrix matrix = Packer(set).pack(tensor);
    const Values expected = multiply(Packer(kernels_scalar).pack(tensor), x, 1);
    expect_same(now, multiply(matrix, x, 1), expected);
    check_again(now, matrix, x, expected);
  }
}

// The largest products, all of one sign, over as many columns as the kernels allow; with
// activations that are all 1, all -1, or of both signs.
void check_largest(const Kernels& set, const Kind& kind) {
  if (kind.grid) return check_largest_grid(set, kind);
  constexpr size_t rows = 2;
  Tensor tensor = coded(kind, rows, max_columns);
  for (size_t i = 0; i < tensor.levels.size(); ++i)
    tensor.levels[i] = i % kind.entries % 2 ? 1.0f : -1.0f;
  tensor.scale.assign(rows, 1.0f);
  const Case now{set, kind.form + std::string(" at its largest"), rows, max_columns, 1};
  for (int activations : {1, -1, 0})
    for (bool positive : {true, false}) {
      Values x(max_columns, static_cast<float>(activations));
      for (size_t i = 0; i < max_columns; ++i) {
        if (activations == 0) x[i] = bits() & 1 ? 1.0f : -1.0f;
        for (size_t row = 0; row < rows; ++row)
          tensor.codes[row * max_columns + i] = (x[i] > 0) == positive;
      }
      const PackedMatrix matrix = Packer(set).pack(tensor);
      const Values found = multiply(matrix, x, 1);
      check_again(now, matrix, x, found);
      for (size_t i = 0; i < rows; ++i)
        expect_within(now, i, found[i], positive ? max_columns : -1.0 * max_columns, 0.1);
      expect_same(now, found, multiply(Packer(kernels_scalar).pack(tensor), x, 1));
    }
}

}  // namespace

void check_matrices(const Kernels& set, std::span<const size_t> sizes) {
  for (size_t rows : sizes)
    for (size_t columns : sizes) {
      for (const Kind& kind : kinds) check_coded(set, kind, rows, columns);
      check_dense(set, rows, columns);
    }
  for (const Kind& kind : kinds) {
    check_coded(set, kind, 100, 4096, 5);  // more rows than are kept in the cache
    check_fine(set, kind, 33, 97);
    check_parts(set, kind);
    for (size_t rows : {5, 40}) check_end(set, kind, rows, rows == 5);
    check_largest(set, kind);
    if (kind.grid) check_products(set, kind);
  }
  for (uint32_t entries : {40u, 120u, 255u}) check_strays(set, entries);
  check_hostile_end(set);
}

}  // namespace tinyvox
