#include "coded.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "rans.h"

namespace tinyvox {
namespace {

// Codes of `bits` bits each without gaps, the lowest bit first; zeros fill up the last byte.
void unpack_codes(std::span<const uint8_t> packed, uint32_t bits, std::span<uint8_t> codes) {
  uint32_t window = 0, held = 0;
  for (uint8_t& code : codes) {
    if (held < bits) {
      window |= static_cast<uint32_t>(packed[0]) << held;
      packed = packed.subspan(1);
      held += 8;
    }
    code = static_cast<uint8_t>(window & ((1u << bits) - 1));
    window >>= bits;
    held -= bits;
  }
  if (window) fail("bits after the last code are not zero");
}

// Memory is allocated only once it is known that the file has the bytes for it.
std::vector<uint8_t> read_codes(Reader& reader, Budget& budget, const CodeShape& shape) {
  std::vector<uint8_t> codes;
  const uint64_t size = static_cast<uint64_t>(shape.rows) * shape.columns;
  if (const uint32_t length = reader.varint("length of the codes", 0, 1u << 30)) {
    const auto payload = reader.take(length);
    if (size > max_codes_a_byte * payload.size())
      fail("decodes " + std::to_string(payload.size()) + " bytes to " + std::to_string(size) +
           " codes, expected at most 4096 a byte");
    budget.spend(size);
    codes.resize(size);
    rans_decode(payload, shape, codes);
    return codes;
  }
  if (shape.trellis) fail("codes of a trellis are packed, expected rANS");
  const uint32_t bits = std::bit_width(shape.entries - 1);
  const auto packed = reader.take((size * bits + 7) / 8);
  budget.spend(size);
  codes.resize(size);
  unpack_codes(packed, bits, codes);
  const uint8_t most = *std::max_element(codes.begin(), codes.end());
  if (most >= shape.entries)
    fail("code " + std::to_string(most) + " lies outside a table of " +
         std::to_string(shape.entries));
  return codes;
}

void read_groups(Reader& reader, Budget& budget, Tensor& tensor) {
  tensor.groups = reader.varint("number of groups", 1, std::min(max_groups, tensor.rows));
  if (tensor.groups == 1) return;
  tensor.group = read_codes(reader, budget, {tensor.rows, 1, tensor.groups, {}});
  std::array<bool, max_groups> used{};
  for (uint8_t group : tensor.group) used[group] = true;
  for (uint32_t group = 0; group < tensor.groups; ++group)
    if (!used[group]) fail("group " + std::to_string(group) + " has no rows");
}

// Copies each group's value to its rows.
template <typename T>
void spread(std::vector<T>& values, const Tensor& tensor) {
  std::vector<T> rows(tensor.rows);
  for (size_t row = 0; row < rows.size(); ++row)
    rows[row] = values[tensor.group.empty() ? 0 : tensor.group[row]];
  values = std::move(rows);
}

void read_table(Reader& reader, Tensor& tensor, bool half) {
  const uint32_t tables = reader.varint("number of tables", 1, tensor.groups);
  if (tables != 1 && tables != tensor.groups)
    fail(std::to_string(tables) + " tables, expected one, or one for each of " +
         std::to_string(tensor.groups) + " groups");
  tensor.levels = reader.floats(static_cast<uint64_t>(tables) * tensor.entries, half);
}

void read_zero(Reader& reader, Tensor& tensor, bool by_group) {
  const uint32_t scales = by_group ? tensor.groups : tensor.rows;
  const uint32_t count = reader.varint("number of zeros", 1, scales);
  if (count != 1 && (count != scales || tensor.codebook == CodebookKind::trellis))
    fail(std::to_string(count) + " zeros, expected one" +
         (tensor.codebook == CodebookKind::trellis ? "" : ", or as many as scales"));
  const auto bytes = reader.take(count);
  tensor.zero.assign(bytes.begin(), bytes.end());
  if (*std::max_element(tensor.zero.begin(), tensor.zero.end()) >= tensor.entries)
    fail("a zero lies outside a grid of " + std::to_string(tensor.entries));
  if (count != 1 && by_group) spread(tensor.zero, tensor);
}

void read_binary(Reader& reader, Tensor& tensor, bool half) {
  const uint32_t bits = std::bit_width(tensor.entries) - 1u;
  if (!std::has_single_bit(tensor.entries) || bits > max_binary_bits)
    fail("binary codes have " + std::to_string(tensor.entries) + " entries, expected a power of 2");
  tensor.levels = reader.floats(static_cast<uint64_t>(tensor.rows) * bits, half);
}

void read_codebook(Reader& reader, Tensor& tensor, const CodedFlags& flags) {
  tensor.entries = reader.varint("number of entries", 2, 256);
  if (tensor.codebook == CodebookKind::table) return read_table(reader, tensor, flags.half_levels);
  if (tensor.codebook == CodebookKind::binary)
    return read_binary(reader, tensor, flags.half_levels);
  if (flags.half_levels) fail("a grid has the flag of levels");
  read_zero(reader, tensor, flags.scale_a_group);
}

float largest_level(const Tensor& tensor) {
  if (tensor.codebook == CodebookKind::table) return magnitude(tensor.levels);
  if (tensor.codebook == CodebookKind::binary)
    return magnitude(tensor.levels) * static_cast<float>(max_binary_bits);
  return 255;
}

}  // namespace

void read_coded(Reader& reader, Budget& budget, Tensor& tensor, const CodedFlags& flags) {
  tensor.codebook = static_cast<CodebookKind>(reader.varint("kind of codebook", 0, 3));
  read_groups(reader, budget, tensor);
  budget.spend(tensor.rows * (sizeof(float) + 1));  // a scale and a zero for each row
  read_codebook(reader, tensor, flags);
  tensor.scale =
      reader.floats(flags.scale_a_group ? tensor.groups : tensor.rows, flags.half_scales);
  if (!std::isfinite(largest_level(tensor) * magnitude(tensor.scale)))
    fail("levels times scales overflow");
  CodeShape shape{tensor.rows, tensor.columns, tensor.entries, {}};
  if (flags.model_a_group) {
    if (tensor.groups == 1) fail("a model for each group, but there is one group");
    shape.group = tensor.group;
    shape.groups = tensor.groups;
  }
  if (tensor.codebook == CodebookKind::trellis) shape.trellis = tensor.zero[0];
  const size_t before = reader.position();
  tensor.codes = read_codes(reader, budget, shape);
  tensor.code_bytes = reader.position() - before;
  if (flags.scale_a_group) spread(tensor.scale, tensor);
}

void Tensor::levels_of(uint32_t row, float* to) const {
  if (codebook == CodebookKind::table) {
    std::copy_n(levels.data() + codebook_of(row) * entries, entries, to);
    return;
  }
  const uint32_t bits = std::bit_width(entries) - 1u;
  for (uint32_t code = 0; code < entries; ++code) {
    if (codebook != CodebookKind::binary) {
      to[code] = static_cast<float>(code) - static_cast<float>(codebook_of(row));
      continue;
    }
    to[code] = 0;
    for (uint32_t bit = 0; bit < bits; ++bit) {
      const float alpha = levels[row * bits + bit];
      to[code] += code >> bit & 1 ? alpha : -alpha;
    }
  }
}

uint32_t Tensor::codebook_of(uint32_t row) const {
  if (codebook == CodebookKind::binary) return row;
  if (codebook == CodebookKind::table)
    return levels.size() == entries || group.empty() ? 0 : group[row];
  return zero[zero.size() == 1 ? 0 : row];
}

void Tensor::weights_of(uint32_t row, float* to) const {
  const size_t begin = static_cast<size_t>(row) * columns;
  if (kind == TensorKind::dense) {
    std::copy_n(values.data() + begin, columns, to);
    return;
  }
  float of_code[256];
  levels_of(row, of_code);
  for (size_t i = 0; i < columns; ++i) to[i] = of_code[codes[begin + i]] * scale[row];
}

Tensor Tensor::copy() const {
  Tensor result;
  result.kind = kind;
  result.rows = rows;
  result.columns = columns;
  result.values = values;
  result.codebook = codebook;
  result.entries = entries;
  result.groups = groups;
  result.group = group;
  result.levels = levels;
  result.zero = zero;
  result.scale = scale;
  result.codes = codes;
  if (left) result.left = std::make_unique<Tensor>(left->copy());
  result.right = right;
  result.shares_with = shares_with;
  return result;
}

uint64_t Tensor::copy_bytes() const {
  const uint64_t numbers = values.size() + levels.size() + scale.size();
  const uint64_t own = numbers * sizeof(float) + group.size() + zero.size() + codes.size();
  return own + (left ? left->copy_bytes() : 0);
}

bool Tensor::one_codebook() const {
  return codebook != CodebookKind::binary && levels.size() <= entries && zero.size() <= 1;
}

}  // namespace tinyvox
