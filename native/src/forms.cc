#include "forms.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <numeric>

namespace tinyvox {
namespace {

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

// How many codes of some rows stand for each integer, from -127 on.
using Counts = std::array<size_t, 255>;
constexpr int lowest = -127;

// Of each code. Neighbors are counted apart: to count the same one again takes several cycles.
std::array<size_t, 256> count_codes(const uint8_t* codes, size_t size) {
  constexpr size_t parts = 4;
  std::array<size_t, 256> counts[parts]{};
  size_t i = 0;
  for (; i + parts <= size; i += parts)
    for (size_t part = 0; part < parts; ++part) ++counts[part][codes[i + part]];
  for (; i < size; ++i) ++counts[0][codes[i]];
  for (size_t part = 1; part < parts; ++part)
    for (size_t code = 0; code < 256; ++code) counts[0][code] += counts[part][code];
  return counts[0];
}

Counts counts_of(const Tensor& tensor, size_t first, size_t rows) {
  Counts counts{};
  RowIntegers integers(tensor);
  const size_t at_once = tensor.one_codebook() ? rows : 1;
  for (size_t row = first; row < first + rows; row += at_once) {
    const auto of_code =
        count_codes(tensor.codes.data() + row * tensor.columns, at_once * tensor.columns);
    const std::vector<int>& values = integers(row).values;
    for (size_t code = 0; code < values.size(); ++code)
      counts[static_cast<size_t>(values[code] - lowest)] += of_code[code];
  }
  return counts;
}

// Each stray is multiplied alone. More than one in so many codes cost more time than they save; and
// a matrix that stays in a second-level cache anyway has nothing to save.
constexpr size_t codes_a_stray = 200;
constexpr size_t cached_codes = size_t{1} << 18;

// The most codes that 16 integers in a row have, and the first of those.
struct Window {
  size_t codes = 0;
  int least = 0;
};

Window window_of(const Counts& counts) {
  constexpr size_t width = 16;
  Window best;
  for (size_t i = 0; i + width <= counts.size(); ++i) {
    const size_t codes = std::accumulate(&counts[i], &counts[i] + width, size_t{0});
    if (codes > best.codes) best = {codes, static_cast<int>(i) + lowest};
  }
  return best;
}

// The first form of these that the set has; i8 otherwise.
Form first_of(std::initializer_list<Form> forms, const Kernels& kernels) {
  for (Form form : forms)
    if (kernels.gemm_i8[static_cast<size_t>(form)]) return form;
  return Form::i8;
}

// The form of entries that are stored in bytes: of as few bits as the set can use.
Choice bytes_of(const Counts& counts, const Kernels& kernels) {
  const auto taken = [](size_t count) { return count > 0; };
  const auto least = std::find_if(counts.begin(), counts.end(), taken);
  const auto most = std::find_if(counts.rbegin(), counts.rend(), taken).base() - 1;
  const auto span = most - least;
  const Form form = span <= 63    ? first_of({Form::u6, Form::u7}, kernels)
                    : span <= 127 ? first_of({Form::u7}, kernels)
                                  : Form::i8;
  if (form == Form::i8) return {form, kernels.value_offset};
  return {form, -static_cast<int32_t>(least - counts.begin() + lowest)};
}

// The forms of more levels than a table of 16 has. Codes are counted where it matters.
Choice by_integers(const Tensor& tensor, size_t first, size_t rows, const Kernels& kernels,
                   bool size_alone) {
  const size_t all = rows * tensor.columns;
  const bool large = all > cached_codes;
  const Counts counts = large || !size_alone ? counts_of(tensor, first, rows) : Counts{};
  const Window window = large ? window_of(counts) : Window{};
  if (const size_t strays = all - window.codes; large && strays <= all / codes_a_stray)
    return {Form::g4, -window.least, strays};
  const bool six_bits = tensor.one_codebook() && tensor.entries <= 64;
  if (six_bits && first_of({Form::c6}, kernels) == Form::c6)
    return {Form::c6, kernels.value_offset};
  return size_alone ? Choice{Form::i8, kernels.value_offset} : bytes_of(counts, kernels);
}

}  // namespace

Integers small_table(const Tensor& tensor, int most) {
  std::vector<float> levels(tensor.entries);
  tensor.levels_of(0, levels.data());
  return tensor.zero.empty() ? best_integers(levels, most) : grid_integers(levels);
}

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

const Integers& RowIntegers::operator()(size_t row) {
  const auto which = static_cast<uint32_t>(row);
  if (tensor_.codebook == CodebookKind::binary) tables_.clear();  // each row has its own
  const auto [found, fresh] = tables_.try_emplace(tensor_.codebook_of(which));
  if (fresh) found->second = row_integers(tensor_, which);
  return found->second;
}

std::optional<Choice> choose_form(const Tensor& tensor, size_t first, size_t rows,
                                  const Kernels& kernels, bool size_alone) {
  if (tensor.kind == TensorKind::dense || tensor.columns > max_columns) return std::nullopt;
  const auto with_table = [](Form form) { return Choice{form, packing_of(form).offset}; };
  const uint32_t entries = tensor.entries;
  if (!tensor.one_codebook() && entries <= 4) return Choice{Form::r2, kernels.value_offset};
  if (!tensor.one_codebook() || entries > 16)
    return by_integers(tensor, first, rows, kernels, size_alone);
  if (entries <= 2) return with_table(Form::c1);
  if (entries <= 4) return with_table(Form::c2);
  if (!tensor.zero.empty()) return Choice{Form::g4, static_cast<int32_t>(tensor.zero[0])};
  return with_table(entries <= 8 ? Form::c3 : Form::c4);
}

}  // namespace tinyvox
