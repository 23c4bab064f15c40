#include "matrix.h"

#include <algorithm>
#include <cmath>

namespace tinyvox {
namespace {

struct Integers {
  std::vector<int> values;
  float step = 0, error = INFINITY;  // between two integers; squared, over all values
};

// Centroids as integers, the largest of magnitude `top`.
Integers to_integers(const std::vector<float>& centroids, int top) {
  Integers result;
  result.step = magnitude(centroids) / static_cast<float>(top);
  result.error = 0;
  for (float centroid : centroids) {
    const float exact = result.step > 0 ? centroid / result.step : 0.0f;
    result.values.push_back(static_cast<int>(std::lround(exact)));
    const float off = (exact - static_cast<float>(result.values.back())) * result.step;
    result.error += off * off;
  }
  return result;
}

// A few centroids fall closer to the integers under some steps than under others: the best one, at
// most `most` in magnitude.
Integers best_integers(const std::vector<float>& centroids, int most) {
  Integers best;
  for (int top = most; top >= most * 2 / 3; --top)
    if (Integers found = to_integers(centroids, top); found.error < best.error)
      best = std::move(found);
  return best;
}

// The levels of a grid are integers as they are.
Integers grid_integers(const std::vector<float>& levels) {
  return {{levels.begin(), levels.end()}, 1.0f, 0.0f};
}

// The levels that every row has, as integers of at most `most` in magnitude.
Integers small_table(const Tensor& tensor, int most) {
  std::vector<float> levels(tensor.entries);
  tensor.levels_of(0, levels.data());
  return tensor.zero.empty() ? best_integers(levels, most) : grid_integers(levels);
}

// The levels of a row as int8.
Integers row_integers(const Tensor& tensor, uint32_t row) {
  std::vector<float> levels(tensor.entries);
  tensor.levels_of(row, levels.data());
  const bool exact = !tensor.zero.empty() && magnitude(levels) <= 127;
  return exact ? grid_integers(levels) : to_integers(levels, 127);
}

const Tensor& leftmost(const Tensor& tensor) {
  return tensor.left ? leftmost(*tensor.left) : tensor;
}

template <typename T>
size_t bytes_of(const std::vector<T>& values) {
  return values.capacity() * sizeof(T);
}

}  // namespace

void MatrixWork::reserve(size_t columns, size_t rows) {
  const size_t values = max_frames * blocks_of(columns) * block_columns;
  if (values_.size() < values) values_.resize(values);
  for (auto& between : between_)
    if (between.size() < max_frames * rows) between.resize(max_frames * rows);
}

size_t MatrixWork::bytes() const {
  return bytes_of(values_) + bytes_of(between_[0]) + bytes_of(between_[1]);
}

Leaf::Leaf(const Tensor& tensor, size_t first, size_t rows, const Kernels& kernels)
    : kernels_(kernels), rows_(rows), columns_(tensor.columns) {
  scale_.resize((rows + kernels.block_rows - 1) / kernels.block_rows * kernels.block_rows);
  if (tensor.kind == TensorKind::dense || tensor.columns > max_columns) {
    form_ = Form::f32;
    pack_dense(tensor, first);
  } else if (tensor.entries <= 16 && tensor.one_codebook()) {
    form_ = tensor.entries <= 8 ? Form::c3 : Form::c4;
    pack_codes(tensor, first);
  } else {
    form_ = Form::i8;
    pack_values(tensor, first);
  }
}

void Leaf::pack_dense(const Tensor& tensor, size_t first) {
  const size_t begin = first * columns_, size = rows_ * columns_;
  dense_.resize(size);
  if (tensor.kind == TensorKind::dense) {
    std::copy_n(tensor.values.data() + begin, size, dense_.data());
    return;
  }
  std::vector<float> levels(tensor.entries);
  for (size_t row = 0, i = 0; row < rows_; ++row) {
    tensor.levels_of(static_cast<uint32_t>(first + row), levels.data());
    for (size_t column = 0; column < columns_; ++column, ++i)
      dense_[i] = levels[tensor.codes[begin + i]] * tensor.scale[first + row];
  }
}

void Leaf::pack_codes(const Tensor& tensor, size_t first) {
  offset_ = form_ == Form::c3 ? 32 : 64;
  const Integers table = small_table(tensor, offset_ - 1);
  for (size_t i = 0; i < table.values.size(); ++i)
    table_[i] = static_cast<uint8_t>(table.values[i] + offset_);
  for (size_t row = 0; row < rows_; ++row) scale_[row] = tensor.scale[first + row] * table.step;
  const size_t height = kernels_.block_rows;
  packed_.resize(blocks() * height * 4);
  for (size_t row = 0; row < rows_; ++row)
    for (size_t column = 0; column < columns_; ++column) {
      const uint8_t code = tensor.codes[(first + row) * columns_ + column];
      const bool high = column % block_columns >= 4;
      packed_[(block_of(row, column) * height + row % height) * 4 + column % 4] |=
          static_cast<uint8_t>(high ? code << 4 : code);
    }
}

void Leaf::pack_values(const Tensor& tensor, size_t first) {
  const size_t height = kernels_.block_rows;
  values_.resize(blocks() * height * 8);
  Integers table;
  for (size_t row = 0; row < rows_; ++row) {
    if (row == 0 || !tensor.one_codebook())
      table = row_integers(tensor, static_cast<uint32_t>(first + row));
    scale_[row] = tensor.scale[first + row] * table.step;
    for (size_t column = 0; column < columns_; ++column) {
      const uint8_t code = tensor.codes[(first + row) * columns_ + column];
      const size_t half = column % block_columns / 4;
      values_[((block_of(row, column) * 2 + half) * height + row % height) * 4 + column % 4] =
          static_cast<int8_t>(table.values[code]);
    }
  }
}

size_t Leaf::blocks() const {
  return (rows_ + kernels_.block_rows - 1) / kernels_.block_rows * blocks_of(columns_);
}

size_t Leaf::block_of(size_t row, size_t column) const {
  return row / kernels_.block_rows * blocks_of(columns_) + column / block_columns;
}

size_t Leaf::bytes() const {
  return bytes_of(dense_) + bytes_of(packed_) + bytes_of(values_) + bytes_of(scale_);
}

void Leaf::apply(const float* x, size_t frames, float* y, MatrixWork& work) const {
  if (form_ == Form::f32)
    return kernels_.gemm_f32_f32({dense_.data(), rows_, columns_}, x, frames, y);
  const size_t blocks = blocks_of(columns_);
  const Activations inputs{work.values_.data(), work.scale_, work.sum_, frames, blocks};
  for (size_t frame = 0; frame < frames; ++frame)
    kernels_.quantize_i8(x + frame * columns_, columns_, blocks,
                         work.values_.data() + frame * blocks * block_columns, work.scale_ + frame,
                         work.sum_ + frame);
  if (form_ == Form::i8)
    return kernels_.gemm_i8_i8({values_.data(), scale_.data(), rows_, blocks}, inputs, y);
  Codes codes{packed_.data(), scale_.data(), rows_, blocks, offset_, {}};
  std::copy_n(table_, 16, codes.table);
  (form_ == Form::c3 ? kernels_.gemm_c3_i8 : kernels_.gemm_c4_i8)(codes, inputs, y);
}

void PackedMatrix::reserve(MatrixWork& work) const {
  for (size_t i = 0; i < chain_.size(); ++i)
    work.reserve(chain_[i]->columns(), i > 0 ? chain_[i]->rows() : 0);
}

void PackedMatrix::apply(const float* x, size_t frames, float* y, MatrixWork& work) const {
  for (size_t i = chain_.size(); i-- > 0;) {
    float* to = i == 0 ? y : work.between_[i % 2].data();
    chain_[i]->apply(x, frames, to, work);
    x = to;
  }
}

PackedMatrix Packer::pack(const Tensor& tensor) { return split_rows(tensor, 1)[0]; }

std::vector<PackedMatrix> Packer::split_rows(const Tensor& tensor, size_t groups) {
  size_t counted = bytes_;
  Chain rest;
  pack_after_first(tensor, rest);
  const size_t rows = tensor.rows / groups;
  std::vector<PackedMatrix> result(groups);
  for (size_t group = 0; group < groups; ++group) {
    PackedMatrix& part = result[group];
    part.chain_ = {pack_leaf(leftmost(tensor), group * rows, rows)};
    part.chain_.insert(part.chain_.end(), rest.begin(), rest.end());
    part.bytes_ = bytes_ - counted;
    counted = bytes_;
  }
  return result;
}

std::shared_ptr<const Leaf> Packer::pack_leaf(const Tensor& tensor, size_t first, size_t rows) {
  auto leaf = std::make_shared<const Leaf>(tensor, first, rows, kernels_);
  bytes_ += leaf->bytes();
  return leaf;
}

void Packer::pack_after_first(const Tensor& tensor, Chain& chain) {
  if (!tensor.left) return;
  pack_after_first(*tensor.left, chain);
  const Chain factor = pack_factor(tensor.right);
  chain.insert(chain.end(), factor.begin(), factor.end());
}

Packer::Chain Packer::pack_factor(const std::shared_ptr<const Tensor>& factor) {
  if (const auto found = shared_.find(factor); found != shared_.end()) return found->second;
  const Tensor& first = leftmost(*factor);
  Chain chain{pack_leaf(first, 0, first.rows)};
  pack_after_first(*factor, chain);
  if (factor.use_count() > 1) shared_[factor] = chain;
  return chain;
}

}  // namespace tinyvox
