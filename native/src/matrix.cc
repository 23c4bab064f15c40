#include "matrix.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace tinyvox {
namespace {

#include "kernels/transpose.inl"

// To turn fewer frames takes longer than to multiply each alone.
constexpr size_t least_turned = 4;
// Frames and columns that are turned at once.
constexpr size_t turned = 16;

// Values [frames, stride] by columns, as in Activations.
void turn(const int8_t* values, size_t frames, size_t stride, int8_t* to) {
  using Bytes [[gnu::vector_size(turned)]] = int8_t;
  for (size_t frame = 0; frame < frames; frame += turned)
    for (size_t column = 0; column < stride; column += turned) {
      Bytes square[turned] = {};
      for (size_t i = 0; i < turned && frame + i < frames; ++i)
        std::memcpy(&square[i], values + (frame + i) * stride + column, turned);
      transpose(square);
      for (size_t i = 0; i < turned; ++i)
        std::memcpy(to + (column + i) * max_frames + frame, &square[i], turned);
    }
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

void MatrixWork::reserve_strays(size_t columns) {
  stray_columns_ = std::max(stray_columns_, padded(columns));
  if (memory_ == Memory::taken) take();
}

void MatrixWork::take() {
  values_.resize(max_frames * columns_);
  for (auto& between : between_) between.resize(max_frames * rows_);
  rest_.resize(max_frames * fine_columns_);
  low_.resize(max_frames * fine_rows_);
  if (stray_columns_) by_column_.resize((stray_columns_ + 1) * max_frames);
}

size_t MatrixWork::bytes() const {
  const size_t floats = 2 * rows_ + fine_columns_ + fine_rows_;
  const size_t turned = stray_columns_ ? stray_columns_ + 1 : 0;
  return max_frames * ((columns_ + turned) * sizeof(int8_t) + floats * sizeof(float));
}

Leaf::Leaf(const Tensor& tensor, size_t first, size_t rows, const Kernels& kernels, Memory memory)
    : kernels_(kernels), rows_(rows), columns_(tensor.columns) {
  if (const std::optional<Choice> choice =
          choose_form(tensor, first, rows, kernels, memory == Memory::measured)) {
    form_ = choice->form;
    offset_ = choice->offset;
    strays_count_ = choice->strays;
    fine_ = tensor.fine_input;
    chunks_ = packing_of(*form_).chunks(columns_);
  }
  if (memory == Memory::taken) pack(tensor, first);
}

void Leaf::pack(const Tensor& tensor, size_t first) {
  if (!form_) return pack_dense(tensor, first);
  scale_.resize(scales_size());
  std::copy_n(tensor.scale.data() + first, rows_, scale_.data());
  table_.resize(table_size());
  codes_.resize(codes_size());
  strays_.reserve(strays_count_);
  stray_ends_.resize(stray_ends_size());
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
  const size_t height = kernels_.block_rows;
  if (form == Form::r2)
    set_row_tables(tensor, first);
  else if (has_table(form))
    set_table(tensor);
  RowIntegers integers(tensor);
  Entries entries;
  std::iota(entries.begin(), entries.end(), uint8_t{0});
  for (size_t row = 0; row < rows_; ++row) {
    const Integers* levels = has_table(form) ? nullptr : &integers(first + row);
    if (levels) {
      scale_[row] = levels->scaled(scale_[row]);
      entries = entries_of<form>(*levels);
    }
    const uint8_t* codes = tensor.codes.data() + (first + row) * columns_;
    pack_row<form>(codes, row, entries);
    if (form == Form::g4 && levels && strays_count_) add_strays(codes, row, *levels);
    const bool last = row + 1 == rows_ || (row + 1) % height == 0;
    if (strays_count_ && last) {
      deal_strays(stray_ends_[row / height]);
      stray_ends_[row / height + 1] = static_cast<uint32_t>(strays_.size());
    }
  }
}

// A word of four columns at a time: codes of several quads do not meet in a byte.
template <Form form>
void Leaf::pack_row(const uint8_t* codes, size_t row, const Entries& entries) {
  constexpr Packing packing = packing_of(form);
  const size_t height = kernels_.block_rows, width = 4 * height, lane = 4 * (row % height);
  uint8_t* chunk = codes_.data() + chunk_at(chunks_, row / height, 0) * chunk_bytes();
  for (size_t start = 0; start < columns_;
       start += packing.columns(), chunk += panel_blocks * chunk_bytes()) {
    uint8_t some[packing.columns()] = {};
    const size_t count = std::min(packing.columns(), columns_ - start);
    for (size_t i = 0; i < count; ++i) some[i] = entries[codes[start + i]];
    if constexpr (form == Form::c6) {
      for (size_t i = 0; i < count; ++i) put_code(form, chunk, width, lane + i % 4, i / 4, some[i]);
      continue;
    }
    uint32_t words[packing.quads], packed[packing.registers] = {};
    std::memcpy(words, some, sizeof words);
    for (size_t quad = 0; quad < packing.quads; ++quad)
      packed[packing.bits == 8 ? quad : 0] |= words[quad]
                                              << (packing.bits == 8 ? 0 : packing.bits * quad);
    for (size_t i = 0; i < packing.registers; ++i)
      std::memcpy(chunk + i * width + lane, &packed[i], sizeof packed[i]);
  }
}

// The entries that are stored for the codes of a row.
template <Form form>
Leaf::Entries Leaf::entries_of(const Integers& levels) const {
  Entries entries{};
  for (size_t code = 0; code < levels.values.size(); ++code) {
    const int whole = levels.values[code] + offset_;
    entries[code] = static_cast<uint8_t>(form == Form::g4 ? std::clamp(whole, 0, 15) : whole);
  }
  return entries;
}

// What the entries of g4 do not hold of a row.
void Leaf::add_strays(const uint8_t* codes, size_t row, const Integers& levels) {
  std::array<int32_t, 256> more{};
  for (size_t code = 0; code < levels.values.size(); ++code) {
    const int whole = levels.values[code] + offset_;
    more[code] = whole - std::clamp(whole, 0, 15);
  }
  for (size_t column = 0; column < columns_; ++column)
    if (more[codes[column]] != 0)
      strays_.push_back({static_cast<uint32_t>(column),
                         static_cast<uint32_t>(row % kernels_.block_rows), more[codes[column]]});
}

// Of a block from this stray on. One of the same row would have to wait for the sum of the one
// before, so the quarters are dealt out in turn.
void Leaf::deal_strays(size_t first) {
  const std::vector<Stray> by_row(strays_.begin() + static_cast<ptrdiff_t>(first), strays_.end());
  const size_t quarter = (by_row.size() + 3) / 4;
  for (size_t i = 0, to = first; i < quarter; ++i)
    for (size_t at = i; at < by_row.size(); at += quarter) strays_[to++] = by_row[at];
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
  RowIntegers integers(tensor);
  for (size_t row = 0; row < rows_; ++row) {
    const Integers& entries = integers(first + row);
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

size_t Leaf::stray_ends_size() const { return strays_count_ ? blocks() + 1 : 0; }

size_t Leaf::bytes() const {
  const size_t arrays = form_ ? codes_size() + table_size() + scales_size() * sizeof(float) +
                                    strays_count_ * sizeof(Stray) +
                                    stray_ends_size() * sizeof(uint32_t)
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
  Activations inputs{work.values_.data(), work.scale_, work.sum_, frames, stride};
  if (has_strays() && frames >= least_turned) {
    turn(inputs.values, frames, stride, work.by_column_.data());
    inputs.by_column = work.by_column_.data();
  }
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
                     offset_,
                     strays_.data(),
                     strays_count_ ? stray_ends_.data() + first : nullptr};
  kernels_.gemm_i8[static_cast<size_t>(*form_)](part, x, y.from(row));
}

void PackedMatrix::reserve(MatrixWork& work) const {
  for (size_t i = 0; i < chain_.size(); ++i) {
    work.reserve(chain_[i]->columns(), i > 0 ? chain_[i]->rows() : 0);
    if (chain_[i]->has_strays()) work.reserve_strays(chain_[i]->columns());
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
