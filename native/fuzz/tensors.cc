#include "tensors.h"

#include <algorithm>
#include <bit>

#include "trellis.h"

namespace tinyvox::fuzz {
namespace {

uint32_t bits_of(const Tensor& tensor) { return std::bit_width(tensor.entries) - 1u; }

// Values [rows, columns] in a new shape. `fill` makes those that were not there.
template <typename T, typename Fill>
void reshape(std::vector<T>& values, uint32_t from, uint32_t rows, uint32_t columns, Fill fill) {
  std::vector<T> shaped(static_cast<size_t>(rows) * columns);
  for (size_t i = 0; i < shaped.size(); ++i) {
    const size_t row = i / columns, column = i % columns, old = row * from + column;
    shaped[i] = column < from && old < values.size() ? values[old] : static_cast<T>(fill());
  }
  values = std::move(shaped);
}

void set_groups(Tensor& tensor, Random& random) {
  tensor.groups = std::min({tensor.groups, tensor.rows, 256u});
  if (tensor.groups <= 1) {
    tensor.groups = 1;
    tensor.group.clear();
    return;
  }
  tensor.group.resize(tensor.rows);
  for (uint8_t& group : tensor.group)
    if (group >= tensor.groups) group = static_cast<uint8_t>(random.below(tensor.groups));
  for (uint32_t group = 0; group < tensor.groups; ++group)  // each must have a row
    if (std::ranges::find(tensor.group, group) == tensor.group.end())
      for (uint32_t row = 0; row < tensor.groups; ++row)
        tensor.group[row] = static_cast<uint8_t>(row);
}

// All fields of a coded matrix that follow from its rows, entries and groups.
void complete(Tensor& tensor, Random& random) {
  set_groups(tensor, random);
  const auto value = [&] { return random.real(1); };
  if (tensor.codebook == CodebookKind::binary)
    reshape(tensor.levels, bits_of(tensor), tensor.rows, bits_of(tensor), value);
  if (tensor.codebook == CodebookKind::table) {
    const bool several = tensor.groups > 1 && tensor.levels.size() > tensor.entries;
    reshape(tensor.levels, tensor.entries, several ? tensor.groups : 1, tensor.entries, value);
  }
  if (tensor.codebook == CodebookKind::grid || tensor.codebook == CodebookKind::trellis) {
    const bool one = tensor.zero.size() <= 1 || tensor.codebook == CodebookKind::trellis;
    tensor.zero.resize(one ? 1 : tensor.rows, static_cast<uint8_t>(tensor.entries / 2));
    for (uint8_t& zero : tensor.zero) zero = static_cast<uint8_t>(zero % tensor.entries);
  }
  tensor.scale.resize(tensor.rows, 0.5f);
}

void resize_coded(Tensor& tensor, uint32_t from, Random& random) {
  reshape(tensor.codes, from, tensor.rows, tensor.columns,
          [&] { return random.below(tensor.entries); });
  complete(tensor, random);
}

void resize_leaf(Tensor& leaf, uint32_t rows, uint32_t columns, Random& random) {
  const uint32_t from = leaf.columns;
  leaf.rows = rows;
  leaf.columns = columns;
  if (leaf.kind == TensorKind::coded) return resize_coded(leaf, from, random);
  leaf.kind = TensorKind::dense;
  reshape(leaf.values, from, rows, columns, [&] { return random.real(1); });
}

Tensor make_coded(uint32_t rows, uint32_t columns, Random& random) {
  constexpr uint32_t entries[] = {2, 3, 4, 5, 8, 9, 16, 17, 64, 65, 255, 256};
  Tensor tensor;
  tensor.kind = TensorKind::coded;
  tensor.codebook = static_cast<CodebookKind>(random.below(4));
  const bool binary = tensor.codebook == CodebookKind::binary;
  tensor.entries = binary ? 1u << random.between(1, 8) : random.pick(entries);
  tensor.groups = random.one_in(2) ? 1 : random.size(8);
  tensor.fine_input = random.one_in(4);
  const bool several = random.one_in(2);
  if (several && tensor.codebook == CodebookKind::table) tensor.levels.resize(tensor.entries + 1);
  if (several && tensor.codebook == CodebookKind::grid) tensor.zero.resize(2);
  resize_leaf(tensor, rows, columns, random);
  return tensor;
}

Tensor make_product(uint32_t rows, uint32_t columns, Random& random) {
  const uint32_t rank = random.size(8);
  Tensor product;
  product.kind = TensorKind::product;
  product.rows = rows;
  product.columns = columns;
  product.left = std::make_unique<Tensor>(make_matrix(rows, rank, random));
  product.right = std::make_shared<Tensor>(make_matrix(rank, columns, random));
  return product;
}

}  // namespace

Tensor make_vector(uint32_t length, Random& random) {
  Tensor vector;
  vector.kind = TensorKind::vector;
  resize_vector(vector, length, random);
  return vector;
}

Tensor make_matrix(uint32_t rows, uint32_t columns, Random& random) {
  const uint32_t kind = random.below(10);
  if (kind == 0) return make_product(rows, columns, random);
  if (kind > 2) return make_coded(rows, columns, random);
  Tensor dense;
  resize_leaf(dense, rows, columns, random);
  return dense;
}

void resize_vector(Tensor& vector, uint32_t length, Random& random) {
  const auto old = static_cast<uint32_t>(vector.values.size());
  reshape(vector.values, old, 1, length, [&] { return random.real(1); });
  vector.rows = length;
}

void resize_matrix(Tensor& matrix, uint32_t rows, uint32_t columns, Random& random) {
  if (matrix.rows == rows && matrix.columns == columns) return;
  if (!matrix.left) return resize_leaf(matrix, rows, columns, random);
  matrix.rows = rows;
  matrix.columns = columns;
  resize_matrix(*matrix.left, rows, matrix.left->columns, random);
  if (matrix.right->rows == matrix.left->columns && matrix.right->columns == columns) return;
  matrix.right = std::make_shared<Tensor>(copy(*matrix.right));
  resize_matrix(*matrix.right, matrix.left->columns, columns, random);
}

// As a struct, but for the left factor, which has one owner.
Tensor copy(const Tensor& from) {
  Tensor to;
  to.kind = from.kind;
  to.rows = from.rows;
  to.columns = from.columns;
  to.values = from.values;
  to.codebook = from.codebook;
  to.entries = from.entries;
  to.groups = from.groups;
  to.group = from.group;
  to.levels = from.levels;
  to.zero = from.zero;
  to.scale = from.scale;
  to.codes = from.codes;
  to.fine_input = from.fine_input;
  if (from.left) to.left = std::make_unique<Tensor>(copy(*from.left));
  to.right = from.right;
  return to;
}

void for_each_leaf(Tensor& tensor, const std::function<void(Tensor&)>& visit) {
  if (!tensor.left) return visit(tensor);
  for_each_leaf(*tensor.left, visit);
  for_each_leaf(*tensor.right, visit);
}

void follow_trellis(Tensor& tensor) {
  const uint32_t zero = tensor.zero[0];
  const Trellis trellis(tensor.entries, zero);
  std::vector<uint8_t> states(tensor.columns, 0);
  for (size_t i = 0; i < tensor.codes.size(); ++i) {
    uint8_t& state = states[i % tensor.columns];
    uint32_t code = tensor.codes[i];
    if (trellis.next(state, code) == Trellis::none) code += code < zero ? 1 : -1;
    if (trellis.next(state, code & 255) == Trellis::none) code = zero;
    tensor.codes[i] = static_cast<uint8_t>(code);
    state = trellis.next(state, code);
  }
}

}  // namespace tinyvox::fuzz
