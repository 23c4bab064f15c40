// How the compressor chooses codes of a grid.
#include "rdo.h"

#include <nanobind/ndarray.h>

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "bindings.h"

namespace nb = nanobind;

namespace tinyvox {
namespace {

using Floats2d = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Floats1d = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Values = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Bytes1d = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Codes = nb::ndarray<uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

void check(const Rdo& rdo, size_t rows, size_t models) {
  if (rdo.entries < 1 || rdo.entries > 256 || rdo.zero >= rdo.entries)
    throw nb::value_error("entries are 1 to 256, zero is one of them");
  if (!rdo.group.empty() && rdo.group.size() != rows)
    throw nb::value_error("one group a row, or none");
  const size_t most = rdo.group.empty() ? 0 : *std::ranges::max_element(rdo.group);
  if (models < (most + 1) * (rdo.trellis ? 2 : 1)) throw nb::value_error("costs for every model");
}

// A table, where there are values enough for one and all of them have the same weight.
std::optional<RdoTable> table_for(const Rdo& rdo, std::span<const float> weights) {
  if (weights.size() < RdoTable::least_values(rdo.cost.size() / rdo.entries)) return std::nullopt;
  const auto other = [&](float weight) { return weight != weights[0]; };
  return std::ranges::any_of(weights, other) ? std::nullopt : RdoTable::of(rdo, weights[0]);
}

void choose(Floats2d values, Floats2d weights, Codes codes, Floats2d cost, Bytes1d group,
            uint32_t zero, bool trellis) {
  const Rdo rdo{static_cast<uint32_t>(cost.shape(1)),
                zero,
                trellis,
                {cost.data(), cost.size()},
                {group.data(), group.size()}};
  const size_t rows = values.shape(1);
  check(rdo, rows, cost.shape(0));
  if (codes.shape(0) != values.shape(0) || codes.shape(1) != rows ||
      weights.shape(0) != values.shape(0) || weights.shape(1) != rows)
    throw nb::value_error("as many codes and weights as values");
  const nb::gil_scoped_release unlocked;
  const std::optional<RdoTable> table = table_for(rdo, {weights.data(), weights.size()});
  for (size_t column = 0; column < values.shape(0); ++column) {
    const std::span<const float> some{values.data() + column * rows, rows};
    const std::span<const float> heed{weights.data() + column * rows, rows};
    const std::span<uint8_t> chosen{codes.data() + column * rows, rows};
    if (table)
      table->choose(some, heed, chosen);
    else
      choose_codes(rdo, some, heed, chosen);
  }
}

void choose_compensated_columns(Values values, Floats2d spread, Floats1d weights, Floats1d scale,
                                Codes codes, Values errors, Floats2d cost, Bytes1d group,
                                uint32_t zero) {
  const Rdo rdo{static_cast<uint32_t>(cost.shape(1)),
                zero,
                false,
                {cost.data(), cost.size()},
                {group.data(), group.size()}};
  const size_t columns = weights.size(), rows = scale.size();
  check(rdo, rows, cost.shape(0));
  const auto fits = [&](const auto& array) {
    return array.shape(0) == columns && array.shape(1) == rows;
  };
  if (!fits(values) || !fits(codes) || !fits(errors) || spread.shape(0) != columns ||
      spread.shape(1) != columns)
    throw nb::value_error("values, codes, errors are [columns, rows], spread [columns, columns]");
  const nb::gil_scoped_release unlocked;
  choose_compensated(rdo, {{values.data(), values.size()},
                           {spread.data(), spread.size()},
                           {weights.data(), weights.size()},
                           {scale.data(), scale.size()},
                           {codes.data(), codes.size()},
                           {errors.data(), errors.size()}});
}

}  // namespace

void bind_rdo(nb::module_& m) {
  m.def("choose_codes", &choose, nb::arg("values"), nb::arg("weights"), nb::arg("codes"),
        nb::arg("cost"), nb::arg("group"), nb::arg("zero"), nb::arg("trellis"),
        "Fills `codes` for `values` and their `weights`, all [columns, rows] (rdo.h).");
  m.def("choose_compensated", &choose_compensated_columns, nb::arg("values"), nb::arg("spread"),
        nb::arg("weights"), nb::arg("scale"), nb::arg("codes"), nb::arg("errors"), nb::arg("cost"),
        nb::arg("group"), nb::arg("zero"),
        "Fills `codes` and `errors` for `values`, column by column, and changes these (rdo.h).");
}

}  // namespace tinyvox
