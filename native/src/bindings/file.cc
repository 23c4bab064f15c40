#include "file.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "bindings.h"
#include "budget.h"
#include "mapped_file.h"
#include "rans.h"

namespace nb = nanobind;

namespace tinyvox {
namespace {

using Codes = nb::ndarray<const uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Group = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

std::span<const uint8_t> view(const nb::bytes& bytes) {
  return {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
}

// An array that owns the values.
template <typename T>
nb::object array(std::vector<T> values, const std::vector<size_t>& shape) {
  auto* owned = new std::vector<T>(std::move(values));
  nb::capsule owner(owned, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, T>(owned->data(), shape.size(), shape.data(), owner));
}

void add_coded(nb::dict& result, Tensor tensor, const std::vector<size_t>& shape) {
  static constexpr const char* codebooks[] = {"table", "grid", "trellis", "binary"};
  const size_t levels = tensor.levels.size(), zeros = tensor.zero.size();
  const size_t grouped = tensor.group.size();
  result["codebook"] = codebooks[static_cast<size_t>(tensor.codebook)];
  result["entries"] = tensor.entries;
  result["levels"] = array(std::move(tensor.levels), {levels});
  result["zero"] = array(std::move(tensor.zero), {zeros});
  result["group"] = array(std::move(tensor.group), {grouped});
  result["codes"] = array(std::move(tensor.codes), shape);
  result["code_bytes"] = tensor.code_bytes;
  result["fine_input"] = tensor.fine_input;
  result["scale"] = array(std::move(tensor.scale), {tensor.rows});
}

nb::dict to_python(Tensor tensor) {
  static constexpr const char* kinds[] = {"absent", "vector",  "dense",
                                          "coded",  "product", "shared"};
  nb::dict result;
  result["kind"] = kinds[static_cast<size_t>(tensor.kind)];
  result["file_bytes"] = tensor.file_bytes;
  std::vector<size_t> shape{tensor.rows};
  if (tensor.kind != TensorKind::vector) shape.push_back(tensor.columns);
  result["shape"] = nb::tuple(nb::cast(shape));
  if (tensor.kind == TensorKind::vector || tensor.kind == TensorKind::dense)
    result["values"] = array(std::move(tensor.values), shape);
  if (tensor.kind == TensorKind::coded) add_coded(result, std::move(tensor), shape);
  if (tensor.left) result["left"] = to_python(std::move(*tensor.left));
  if (tensor.kind == TensorKind::product) result["right"] = to_python(std::move(*tensor.right));
  if (tensor.kind == TensorKind::shared) result["shares_with"] = tensor.shares_with;
  return result;
}

nb::dict to_python(Node node) {
  nb::dict result;
  result["name"] = node.name;
  result["kind"] = static_cast<int>(node.kind);
  result["inputs"] = node.inputs;
  result["repeats"] = node.repeats ? nb::object(nb::int_(*node.repeats)) : nb::none();
  result["tied"] = node.tied ? nb::object(nb::int_(*node.tied)) : nb::none();
  result["ints"] = node.ints;
  result["floats"] = node.floats;
  nb::list tensors;
  if (node.tied) node.tensors[0] = {};  // it shares factors with that of the embedding
  for (Tensor& tensor : node.tensors) tensors.append(to_python(std::move(tensor)));
  result["tensors"] = tensors;
  result["signal"] = nb::make_tuple(node.signal.channels, node.signal.bands, node.signal.stride);
  result["file_bytes"] = node.file_bytes;
  return result;
}

nb::dict to_python(const Speech& speech) {
  static constexpr const char* kinds[] = {"log_mel", "mfcc", "deepspeech_mfcc"};
  const FeatureConfig& config = speech.features;
  nb::dict features;
  features["kind"] = kinds[static_cast<size_t>(config.kind)];
  features["sample_rate"] = config.sample_rate;
  features["window_ms"] = config.window_ms;
  features["hop_ms"] = config.hop_ms;
  features["bands"] = config.bands;
  features["coefficients"] = config.coefficients;
  features["low_hz"] = config.low_hz;
  features["high_hz"] = config.high_hz;
  features["noise_floor_db"] = config.noise_floor_db;
  features["mean"] = config.mean;
  features["deviation"] = config.deviation;
  nb::dict result;
  result["features"] = features;
  result["tokens"] = speech.tokens;
  result["blank"] = speech.blank;
  result["log_probabilities"] = speech.log_probabilities;
  return result;
}

nb::dict to_python(File file) {
  nb::dict result;
  result["input_size"] = file.input_size;
  nb::list nodes;
  for (Node& node : file.nodes) nodes.append(to_python(std::move(node)));
  result["nodes"] = nodes;
  result["speech"] = file.speech ? nb::object(to_python(*file.speech)) : nb::none();
  result["metadata"] = file.metadata;
  result["overhead"] = file.overhead;
  return result;
}

nb::dict parse_file(const nb::bytes& bytes) {
  File file = [&] {
    nb::gil_scoped_release unlocked;
    return parse(view(bytes));
  }();
  return to_python(std::move(file));
}

nb::dict read_file(nb::object path, uint64_t max_memory) {
  File file;
  with_file(path, [&](std::span<const uint8_t> bytes) {
    Budget budget(max_memory ? max_memory : default_memory(bytes.size()));
    file = parse(bytes, budget);
  });
  return to_python(std::move(file));
}

void check_entries(uint32_t entries) {
  if (entries < 1 || entries > 256) throw nb::value_error("entries are 1 to 256");
}

// What the coder needs besides the codes. `zero` is below 0 if there is no trellis.
CodeShape code_shape(size_t rows, size_t columns, uint32_t entries, const Group& group,
                     uint32_t groups, int zero) {
  check_entries(entries);
  if (zero >= static_cast<int>(entries)) throw nb::value_error("zero is one of the codes");
  CodeShape shape{rows, columns, entries, {group.data(), group.size()}, groups};
  if (group.size() != 0 && group.size() != rows) throw nb::value_error("one group a row");
  if (group.size() == 0 && groups != 1) throw nb::value_error("no groups, but more than one");
  for (uint8_t each : shape.group)
    if (each >= groups) throw nb::value_error("a group lies outside their number");
  if (zero >= 0) shape.trellis = static_cast<uint32_t>(zero);
  return shape;
}

std::span<const uint8_t> inside(const Codes& codes, uint32_t entries) {
  const std::span<const uint8_t> all(codes.data(), codes.size());
  if (std::ranges::any_of(all, [&](uint8_t code) { return code >= entries; }))
    throw nb::value_error("a code lies outside its table");
  return all;
}

nb::bytes encode(Codes codes, uint32_t entries, Group group, uint32_t groups, int zero) {
  const CodeShape shape = code_shape(codes.shape(0), codes.shape(1), entries, group, groups, zero);
  const std::span<const uint8_t> all = inside(codes, entries);
  const std::vector<uint8_t> bytes = rans_encode(all, shape);
  return nb::bytes(bytes.data(), bytes.size());
}

nb::object count(Codes codes, uint32_t entries, Group group, uint32_t groups, int zero) {
  const CodeShape shape = code_shape(codes.shape(0), codes.shape(1), entries, group, groups, zero);
  return array(count_codes(inside(codes, entries), shape), {shape.models(), entries});
}

nb::object decode(const nb::bytes& bytes, size_t rows, size_t columns, uint32_t entries,
                  Group group, uint32_t groups, int zero) {
  const CodeShape shape = code_shape(rows, columns, entries, group, groups, zero);
  std::vector<uint8_t> codes(rows * columns);
  {
    nb::gil_scoped_release unlocked;
    rans_decode(view(bytes), shape, codes);
  }
  return array(std::move(codes), {rows, columns});
}

}  // namespace

void with_path(nb::handle path, const std::function<void(const char*)>& work) {
  PyObject* encoded = nullptr;
  if (!PyUnicode_FSConverter(path.ptr(), &encoded)) throw nb::python_error();
  const auto name = nb::steal<nb::bytes>(encoded);
  try {
    nb::gil_scoped_release unlocked;
    work(name.c_str());
  } catch (const std::system_error& error) {
    errno = error.code().value();
    PyErr_SetFromErrno(PyExc_OSError);
    throw nb::python_error();
  }
}

void with_file(nb::handle path, const std::function<void(std::span<const uint8_t>)>& work) {
  with_path(path, [&](const char* name) { work(MappedFile(name).bytes()); });
}

void bind_file(nb::module_& m) {
  nb::exception<FormatError>(m, "FormatError", PyExc_ValueError);
  m.def("parse_file", &parse_file, nb::arg("bytes"),
        "The content of a .tvx file as dictionaries and arrays. Raises FormatError.");
  m.def("read_file", &read_file, nb::arg("path"), nb::arg("max_memory") = 0,
        "The content of the file at a path, as parse_file. Raises OSError or FormatError.");
  m.def("rans_encode", &encode, nb::arg("codes"), nb::arg("entries"), nb::arg("group"),
        nb::arg("groups") = 1, nb::arg("zero") = -1,
        "Entropy-coded uint8 codes [rows, columns], each below `entries`; `group` [rows] or [0].");
  m.def("count_codes", &count, nb::arg("codes"), nb::arg("entries"), nb::arg("group"),
        nb::arg("groups") = 1, nb::arg("zero") = -1,
        "How often each model has each code, [models, entries].");
  m.def("rans_decode", &decode, nb::arg("bytes"), nb::arg("rows"), nb::arg("columns"),
        nb::arg("entries"), nb::arg("group"), nb::arg("groups") = 1, nb::arg("zero") = -1,
        "The codes that rans_encode was given. Raises FormatError.");
}

}  // namespace tinyvox
