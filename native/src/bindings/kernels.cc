// Single kernels, for the tests that compare every instruction set with the reference.
#include "kernels/kernels.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>

#include "bindings.h"
#include "matrix.h"

namespace nb = nanobind;

namespace tinyvox {
namespace {

using Array1d = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Array2d = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Codes = nb::ndarray<const uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Result = nb::ndarray<nb::numpy, float>;

const Kernels& named(const std::string& isa) {
  if (const Kernels* found = kernels_named(isa.c_str())) return *found;
  throw nb::value_error(("no instruction set '" + isa + "' runs here").c_str());
}

std::vector<std::string> names() {
  const char* found[8];
  return {found, found + kernel_names(found, 8)};
}

Result own(std::vector<float> values, const std::vector<size_t>& shape) {
  auto* owned = new std::vector<float>(std::move(values));
  nb::capsule owner(owned, [](void* p) noexcept { delete static_cast<std::vector<float>*>(p); });
  return Result(owned->data(), shape.size(), shape.data(), owner);
}

Result apply(const std::string& isa, const Tensor& tensor, Array2d x) {
  const PackedMatrix matrix = Packer(named(isa)).pack(tensor);
  if (x.shape(1) != matrix.columns()) throw nb::value_error("columns of weights and x differ");
  Threads threads(1);
  MatrixWork work(threads);
  matrix.reserve(work);
  const size_t frames = x.shape(0), rows = matrix.rows(), columns = matrix.columns();
  std::vector<float> y(frames * rows);
  for (size_t first = 0; first < frames; first += max_frames)
    matrix.apply(x.data() + first * columns, std::min(max_frames, frames - first),
                 y.data() + first * rows, work);
  return own(std::move(y), {frames, rows});
}

Result multiply_dense(const std::string& isa, Array2d weights, Array2d x) {
  Tensor tensor;
  tensor.kind = TensorKind::dense;
  tensor.rows = static_cast<uint32_t>(weights.shape(0));
  tensor.columns = static_cast<uint32_t>(weights.shape(1));
  tensor.values.assign(weights.data(), weights.data() + weights.size());
  return apply(isa, tensor, x);
}

// Levels [1 or rows, entries]: one table for all rows, or one for each row.
Result multiply_coded(const std::string& isa, Codes codes, Array2d levels, Array1d scale,
                      Array2d x) {
  Tensor tensor;
  tensor.kind = TensorKind::coded;
  tensor.rows = static_cast<uint32_t>(codes.shape(0));
  tensor.columns = static_cast<uint32_t>(codes.shape(1));
  tensor.codes.assign(codes.data(), codes.data() + codes.size());
  tensor.entries = static_cast<uint32_t>(levels.shape(1));
  tensor.levels.assign(levels.data(), levels.data() + levels.size());
  for (size_t row = 0; levels.shape(0) > 1 && row < levels.shape(0); ++row)
    tensor.group.push_back(static_cast<uint8_t>(row));
  tensor.scale.assign(scale.data(), scale.data() + scale.size());
  const auto outside = [&](uint8_t code) { return code >= tensor.entries; };
  if (levels.shape(0) != 1 && (levels.shape(0) != tensor.rows || tensor.rows > 256))
    throw nb::value_error("one table, or one a row of at most 256");
  if (scale.size() != tensor.rows || std::ranges::any_of(tensor.codes, outside))
    throw nb::value_error("one scale a row, and every code inside the table");
  return apply(isa, tensor, x);
}

nb::tuple quantize(const std::string& isa, Array1d x) {
  const size_t stride = padded(x.size());
  auto* values = new std::vector<int8_t>(stride);
  nb::capsule owner(values, [](void* p) noexcept { delete static_cast<std::vector<int8_t>*>(p); });
  float scale;
  int32_t sum;
  named(isa).quantize_i8(x.data(), x.size(), stride, values->data(), &scale, &sum);
  return nb::make_tuple(nb::ndarray<nb::numpy, int8_t>(values->data(), {values->size()}, owner),
                        scale, sum);
}

// sigmoid, tanh or log_softmax of one row of values.
Result elementwise(const std::string& isa, const std::string& function, Array1d x) {
  const Kernels& kernels = named(isa);
  std::vector<float> y(x.data(), x.data() + x.size());
  if (function == "sigmoid")
    kernels.sigmoid_f32(y.data(), y.size());
  else if (function == "tanh")
    kernels.tanh_f32(y.data(), y.size());
  else if (function == "log_softmax")
    kernels.log_softmax_f32(y.data(), y.size());
  else
    throw nb::value_error("expected sigmoid, tanh or log_softmax");
  return own(std::move(y), {x.size()});
}

}  // namespace

void bind_kernels(nb::module_& m) {
  m.def("isas", &names, "Instruction sets that run here, best first.");
  m.def("multiply_dense", &multiply_dense, nb::arg("isa"), nb::arg("weights"), nb::arg("x"));
  m.def("multiply_coded", &multiply_coded, nb::arg("isa"), nb::arg("codes"), nb::arg("levels"),
        nb::arg("scale"), nb::arg("x"));
  m.def("quantize_i8", &quantize, nb::arg("isa"), nb::arg("x"));
  m.def("elementwise", &elementwise, nb::arg("isa"), nb::arg("function"), nb::arg("x"));
}

}  // namespace tinyvox
