#include "matrix.h"

#include <algorithm>
#include <climits>
#include <cmath>
#include <initializer_list>

namespace tinyvox {
namespace {

struct Integers {
  std::vector<int> values;
  float step = 0,
        error = INFINITY;  // the value of one integer step; the squared error over all values
  int exponent = 0;        // of two, by which the step is still to be multiplied

  // In double, which holds the product exactly, so that no part of it underflows.
  float scaled(float scale) const {
    return static_cast<float>(std::ldexp(static_cast<double>(scale) * step, exponent));
  }
};

// Divides by a power of two, so that the largest magnitude lies in [1/2, 1) and neither squares of
// errors overflow nor steps underflow. Returns the exponent.
int normalize(std::vector<float>& centroids) {
  int exponent = 0;
  std::frexp(magnitude(centroids), &exponent);
  for (float& centroid : centroids) centroid = std::ldexp(centroid, -exponent);
  return exponent;
}

// Rounds centroids to integers of which the largest has magnitude `top`.
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

// Rounds centroids to integers of at most `most` in magnitude, with the step that rounds them best:
// with few centroids, some steps fit much better than others.
Integers best_integers(std::vector<float> centroids, int most) {
  Integers best;
  const int exponent = normalize(centroids);
  for (int top = most; top >= most * 2 / 3; --top)
    if (Integers found = to_integers(centroids, top); found.error < best.error)
      best = std::move(found);
  best.exponent = exponent;
  return best;
}

// The levels of a grid are integers already.
Integers grid_integers(const std::vector<float>& levels) {
  return {{levels.begin(), levels.end()}, 1.0f, 0.0f};
}

// The levels that all rows share, as integers of at most `most` in magnitude.
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
  if (exact) return grid_integers(levels);
  const int exponent = normalize(levels);
  Integers integers = to_integers(levels, 127);
  integers.exponent = exponent;
  return integers;
}

// The levels of a row, which are found out once for all rows that have the same.
const Integers& table_of(const Tensor& tensor, uint32_t row, std::map<uint32_t, Integers>& tables) {
  if (tensor.codebook == CodebookKind::binary) tables.clear();  // each row has its own
  const auto [found, fresh] = tables.try_emplace(tensor.codebook_of(row));
  if (fresh) found->second = row_integers(tensor, row);
  return found->second;
}

// The first form of these that the set has; i8 otherwise.
Form first_of(std::initializer_list<Form> forms, const Kernels& kernels) {
  for (Form form : forms)
    if (kernels.gemm_i8[static_cast<size_t>(form)]) return form;
  return Form::i8;
}

// The form that takes the least memory among those of this instruction set; empty for floats.
std::optional<Form> form_of(const Tensor& tensor, const Kernels& kernels) {
  if (tensor.kind == TensorKind::dense || tensor.columns > max_columns) return std::nullopt;
  const uint32_t entries = tensor.entries;
  if (!tensor.one_codebook()) return entries <= 4 ? Form::r2 : Form::i8;
  if (entries <= 2) return Form::c1;
  if (entries <= 4) return Form::c2;
  const bool grid = !tensor.zero.empty();
  if (grid && entries <= 16) return first_of({Form::g4, Form::c4}, kernels);
  if (entries <= 8) return Form::c3;
  if (entries <= 16) return Form::c4;
  return entries <= 64 ? first_of({Form::c6}, kernels) : Form::i8;
}

// The least and the largest of the integers that rows have.
struct Range {
  int least = INT_MAX, most = INT_MIN;
};

Range range_of(const Tensor& tensor, size_t first, size_t rows) {
  Range range;
  std::map<uint32_t, Integers> tables;
  for (size_t row = first; row < first + rows; ++row) {
    const std::vector<int>& values = table_of(tensor, static_cast<uint32_t>(row), tables).values;
    const uint8_t* codes = tensor.codes.data() + row * tensor.columns;
    for (size_t i = 0; i < tensor.columns; ++i) {
      range.least = std::min(range.least, values[codes[i]]);
      range.most = std::max(range.most, values[codes[i]]);
    }
  }
  return range;
}

// The form of entries that are stored in bytes: of as few bits as the set can use.
Form byte_form(const Range& range, const Kernels& kernels) {
  const int span = range.most - range.least;
  if (span <= 63) return first_of({Form::u6, Form::u7}, kernels);
  return span <= 127 ? first_of({Form::u7}, kernels) : Form::i8;
}

}  // namespace

const Tensor& leftmost(const Tensor& tensor) {
  return tensor.left ? leftmost(*tensor.left) : tensor;
}

void MatrixWork::reserve(size_t columns, size_t rows) {
  columns_ = std::max(columns_, padded(columns));
  rows_ = std::max(rows_, rows);
  if (memory_ == Memory::taken) take();
}

void MatrixWork::reserve_fine(size_t columns, size_t rows) {
  fine_columns_ = std::max(fine_columns_, columns);
  fine_rows_ = std::max(fine_rows_, rows);
  if (memory_ == Memory::taken) take();
}

void MatrixWork::take() {
  values_.resize(max_frames * columns_);
  for (auto& between : between_) between.resize(max_frames * rows_);
  rest_.resize(max_frames * fine_columns_);
  low_.resize(max_frames * fine_rows_);
}

size_t MatrixWork::bytes() const {
  const size_t floats = 2 * rows_ + fine_columns_ + fine_rows_;
  return max_frames * (columns_ * sizeof(int8_t) + floats * sizeof(float));
}

Leaf::Leaf(const Tensor& tensor, size_t first, size_t rows, const Kernels& kernels, Memory memory)
    : kernels_(kernels), form_(form_of(tensor, kernels)), rows_(rows), columns_(tensor.columns) {
  if (form_) {
    fine_ = tensor.fine_input;
    chunks_ = packing_of(*form_).chunks(columns_);
    offset_ = packing_of(*form_).offset != 0 ? packing_of(*form_).offset : kernels.value_offset;
    if (*form_ == Form::g4) offset_ = static_cast<int32_t>(tensor.zero[0]);
  }
  if (memory == Memory::taken) pack(tensor, first);
}

// Which of the forms in bytes fits shows only when the codes are there; they take the same memory.
void Leaf::choose_bytes(const Tensor& tensor, size_t first) {
  const Range range = range_of(tensor, first, rows_);
  form_ = byte_form(range, kernels_);
  if (*form_ != Form::i8) offset_ = -range.least;
}

void Leaf::pack(const Tensor& tensor, size_t first) {
  if (!form_) return pack_dense(tensor, first);
  if (*form_ == Form::i8) choose_bytes(tensor, first);
  scale_.resize(scales_size());
  std::copy_n(tensor.scale.data() + first, rows_, scale_.data());
  table_.resize(table_size());
  codes_.resize(codes_size());
  using Pack = void (Leaf::*)(const Tensor&, size_t);
  constexpr Pack packs[form_count] = {
      &Leaf::pack_codes<Form::c1>, &Leaf::pack_codes<Form::c2>, &Leaf::pack_codes<Form::r2>,
      &Leaf::pack_codes<Form::c3>, &Leaf::pack_codes<Form::c4>, &Leaf::pack_codes<Form::c6>,
      &Leaf::pack_codes<Form::g4>, &Leaf::pack_codes<Form::u6>, &Leaf::pack_codes<Form::u7>,
      &Leaf::pack_codes<Form::i8>,
  };
  (this->*packs[static_cast<size_t>(*form_)])(tensor, first);
}

void Leaf::pack_dense(const Tensor& tensor, size_t first) {
  dense_.resize(rows_ * columns_);
  for (size_t row = 0; row < rows_; ++row)
    tensor.weights_of(static_cast<uint32_t>(first + row), dense_.data() + row * columns_);
}

template <Form form>
void Leaf::pack_codes(const Tensor& tensor, size_t first) {
  constexpr Packing packing = packing_of(form);
  const size_t height = kernels_.block_rows, width = 4 * height;
  if (form == Form::r2)
    set_row_tables(tensor, first);
  else if (has_table(form))
    set_table(tensor);
  std::map<uint32_t, Integers> tables;
  for (size_t row = 0; row < rows_; ++row) {
    const Integers* entries = nullptr;
    if (packing.bits == 8) {
      entries = &table_of(tensor, static_cast<uint32_t>(first + row), tables);
      scale_[row] = entries->scaled(scale_[row]);
    }
    const uint8_t* codes = tensor.codes.data() + (first + row) * columns_;
    uint8_t* chunk = codes_.data() + chunk_at(chunks_, row / height, 0) * chunk_bytes();
    const size_t lane = 4 * (row % height);
    for (size_t start = 0; start < columns_;
         start += packing.columns(), chunk += panel_blocks * chunk_bytes()) {
      const size_t some = std::min(packing.columns(), columns_ - start);
      for (size_t i = 0; i < some; ++i) {
        uint8_t code = codes[start + i];
        if (packing.bits == 8) code = static_cast<uint8_t>(entries->values[code] + offset_);
        put_code(form, chunk, width, lane + i % 4, i / 4, code);
      }
    }
  }
}

// One table for all rows.
void Leaf::set_table(const Tensor& tensor) {
  const int32_t own = packing_of(*form_).offset;
  const Integers entries = own != 0 ? small_table(tensor, own - 1) : row_integers(tensor, 0);
  for (size_t i = 0; i < entries.values.size(); ++i)
    table_[i] = static_cast<uint8_t>(entries.values[i] + offset_);
  for (size_t row = 0; row < rows_; ++row) scale_[row] = entries.scaled(scale_[row]);
}

void Leaf::set_row_tables(const Tensor& tensor, size_t first) {
  std::map<uint32_t, Integers> tables;
  for (size_t row = 0; row < rows_; ++row) {
    const Integers& entries = table_of(tensor, static_cast<uint32_t>(first + row), tables);
    for (size_t i = 0; i < entries.values.size(); ++i)
      table_[4 * row + i] = static_cast<uint8_t>(entries.values[i] + offset_);
    scale_[row] = entries.scaled(scale_[row]);
  }
}

size_t Leaf::blocks() const { return (rows_ + kernels_.block_rows - 1) / kernels_.block_rows; }

size_t Leaf::padded_blocks() const {
  return (blocks() + panel_blocks - 1) / panel_blocks * panel_blocks;
}

size_t Leaf::chunk_bytes() const { return packing_of(*form_).registers * 4 * kernels_.block_rows; }

size_t Leaf::codes_size() const { return padded_blocks() * chunks_ * chunk_bytes(); }

size_t Leaf::table_size() const {
  if (!has_table(*form_)) return 0;
  return form_ == Form::r2 ? padded_blocks() * kernels_.block_rows * 4 : 64;
}

size_t Leaf::scales_size() const { return blocks() * kernels_.block_rows; }

size_t Leaf::bytes() const {
  const size_t arrays = form_ ? codes_size() + table_size() + scales_size() * sizeof(float)
                              : rows_ * columns_ * sizeof(float);
  return sizeof *this + arrays;
}

size_t Leaf::products() const { return (fine_ ? 2 : 1) * rows_ * columns_; }

void Leaf::apply(const float* x, size_t frames, float* y, MatrixWork& work, const End& end) const {
  const Results results{y, rows_, end};
  if (!form_)
    return work.threads_.share(rows_, 4, rows_ * columns_ * frames, [&](size_t first, size_t last) {
      multiply(first, last, x, frames, results);
    });
  if (!fine_) return apply_int8(x, frames, results, work);
  apply_int8(x, frames, {y, rows_, {}}, work);
  apply_rest(x, frames, results, work);
}

// What rounding to int8 left out of the input is itself an input, some hundred times smaller: the
// two together are the input in 16 bits.
void Leaf::apply_rest(const float* x, size_t frames, Results y, MatrixWork& work) const {
  const size_t stride = padded(columns_);
  for (size_t frame = 0; frame < frames; ++frame) {
    const int8_t* values = work.values_.data() + frame * stride;
    for (size_t i = 0, at = frame * columns_; i < columns_; ++i, ++at)
      work.rest_[at] = x[at] - static_cast<float>(values[i]) * work.scale_[frame];
  }
  apply_int8(work.rest_.data(), frames, {work.low_.data(), rows_, {}}, work);
  const float* low = work.low_.data();
  for (size_t frame = 0; frame < frames; ++frame, y.values += rows_, low += rows_)
    for (size_t i = 0; i < rows_; ++i) y.values[i] = y.end(y.values[i] + low[i], i);
}

void Leaf::apply_int8(const float* x, size_t frames, Results y, MatrixWork& work) const {
  const size_t stride = padded(columns_);
  for (size_t frame = 0; frame < frames; ++frame)
    kernels_.quantize_i8(x + frame * columns_, columns_, stride,
                         work.values_.data() + frame * stride, work.scale_ + frame,
                         work.sum_ + frame);
  const Activations inputs{work.values_.data(), work.scale_, work.sum_, frames, stride};
  work.threads_.share(blocks(), panel_blocks, rows_ * columns_ * frames,
                      [&](size_t first, size_t last) { multiply(first, last, inputs, y); });
}

// Rows [first, last).
void Leaf::multiply(size_t first, size_t last, const float* x, size_t frames, Results y) const {
  kernels_.gemm_f32({dense_.data() + first * columns_, last - first, columns_}, x, frames,
                    y.from(first));
}

// Blocks of rows [first, last).
void Leaf::multiply(size_t first, size_t last, const Activations& x, Results y) const {
  const size_t height = kernels_.block_rows, row = first * height;
  const Weights part{codes_.data() + first * chunks_ * chunk_bytes(),
                     table_.data() + (*form_ == Form::r2 ? 4 * row : 0),
                     scale_.data() + row,
                     std::min(last * height, rows_) - row,
                     chunks_,
                     offset_};
  kernels_.gemm_i8[static_cast<size_t>(*form_)](part, x, y.from(row));
}

void PackedMatrix::reserve(MatrixWork& work) const {
  for (size_t i = 0; i < chain_.size(); ++i) {
    work.reserve(chain_[i]->columns(), i > 0 ? chain_[i]->rows() : 0);
    if (chain_[i]->fine()) work.reserve_fine(chain_[i]->columns(), chain_[i]->rows());
  }
}

size_t PackedMatrix::products() const {
  size_t total = 0;
  for (const auto& leaf : chain_) total += leaf->products();
  return total;
}

void PackedMatrix::apply(const float* x, size_t frames, float* y, MatrixWork& work,
                         const End& end) const {
  for (size_t i = chain_.size(); i-- > 0;) {
    float* to = i == 0 ? y : work.between_[i % 2].data();
    chain_[i]->apply(x, frames, to, work, i == 0 ? end : End{});
    x = to;
  }
}

PackedMatrix Packer::pack(const Tensor& tensor) { return split_rows(tensor, 1)[0]; }

PackedMatrix Packer::pack_after_first(const Tensor& tensor) {
  const size_t counted = bytes_;
  PackedMatrix result;
  add_after_first(tensor, result.chain_);
  result.bytes_ = bytes_ - counted;
  return result;
}

std::vector<PackedMatrix> Packer::split_rows(const Tensor& tensor, size_t groups) {
  return split_rows(tensor, std::vector<size_t>(groups, tensor.rows / groups));
}

std::vector<PackedMatrix> Packer::split_rows(const Tensor& tensor,
                                             const std::vector<size_t>& rows) {
  size_t counted = bytes_, first = 0;
  Chain rest;
  add_after_first(tensor, rest);
  std::vector<PackedMatrix> result(rows.size());
  for (size_t group = 0; group < rows.size(); first += rows[group++]) {
    PackedMatrix& part = result[group];
    part.chain_ = {pack_leaf(leftmost(tensor), first, rows[group])};
    part.chain_.insert(part.chain_.end(), rest.begin(), rest.end());
    part.bytes_ = bytes_ - counted;
    counted = bytes_;
  }
  return result;
}

std::shared_ptr<const Leaf> Packer::pack_leaf(const Tensor& tensor, size_t first, size_t rows) {
  auto leaf = std::make_shared<const Leaf>(tensor, first, rows, kernels_, memory_);
  bytes_ += leaf->bytes();
  return leaf;
}

void Packer::add_after_first(const Tensor& tensor, Chain& chain) {
  if (!tensor.left) return;
  add_after_first(*tensor.left, chain);
  const Chain factor = pack_factor(tensor.right);
  chain.insert(chain.end(), factor.begin(), factor.end());
}

Packer::Chain Packer::pack_factor(const std::shared_ptr<const Tensor>& factor) {
  if (const auto found = shared_.find(factor); found != shared_.end()) return found->second;
  const Tensor& first = leftmost(*factor);
  Chain chain{pack_leaf(first, 0, first.rows)};
  add_after_first(*factor, chain);
  if (factor.use_count() > 1) shared_[factor] = chain;
  return chain;
}

}  // namespace tinyvox
