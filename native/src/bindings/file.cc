#include "file.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings.h"
#include "rans.h"

namespace nb = nanobind;

namespace tinyvox {
namespace {

using Codes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

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

nb::dict to_python(Tensor tensor) {
  static constexpr const char* kinds[] = {"absent", "vector", "dense", "coded", "product"};
  nb::dict result;
  result["kind"] = kinds[static_cast<size_t>(tensor.kind)];
  result["file_bytes"] = tensor.file_bytes;
  std::vector<size_t> shape{tensor.rows};
  if (tensor.kind != TensorKind::vector) shape.push_back(tensor.columns);
  result["shape"] = nb::tuple(nb::cast(shape));
  if (tensor.kind == TensorKind::vector || tensor.kind == TensorKind::dense)
    result["values"] = array(std::move(tensor.values), shape);
  if (tensor.kind == TensorKind::coded) {
    const size_t entries = tensor.centroids.size();
    result["codes"] = array(std::move(tensor.codes), shape);
    result["centroids"] = array(std::move(tensor.centroids), {entries});
    result["scale"] = array(std::move(tensor.scale), {tensor.rows});
  }
  if (tensor.kind == TensorKind::product) {
    result["left"] = to_python(std::move(*tensor.left));
    result["right"] = to_python(std::move(*tensor.right));
  }
  return result;
}

nb::dict to_python(Node node) {
  nb::dict result;
  result["name"] = node.name;
  result["kind"] = static_cast<int>(node.kind);
  result["inputs"] = node.inputs;
  result["ints"] = node.ints;
  result["floats"] = node.floats;
  nb::list tensors;
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
  features["mean"] = config.mean;
  features["deviation"] = config.deviation;
  nb::dict result;
  result["features"] = features;
  result["tokens"] = speech.tokens;
  result["blank"] = speech.blank;
  result["log_probabilities"] = speech.log_probabilities;
  return result;
}

nb::dict parse_file(const nb::bytes& bytes) {
  File file = [&] {
    nb::gil_scoped_release unlocked;
    return parse(view(bytes));
  }();
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

void check_entries(uint32_t entries) {
  if (entries < 1 || entries > 256) throw nb::value_error("entries are 1 to 256");
}

nb::bytes encode(Codes codes, uint32_t entries) {
  check_entries(entries);
  const std::span<const uint8_t> all(codes.data(), codes.shape(0));
  for (uint8_t code : all)
    if (code >= entries) throw nb::value_error("a code lies outside its table");
  const std::vector<uint8_t> bytes = rans_encode(all, entries);
  return nb::bytes(bytes.data(), bytes.size());
}

nb::object decode(const nb::bytes& bytes, uint32_t entries, size_t count) {
  check_entries(entries);
  std::vector<uint8_t> codes(count);
  rans_decode(view(bytes), entries, codes);
  return array(std::move(codes), {count});
}

}  // namespace

void bind_file(nb::module_& m) {
  nb::exception<FormatError>(m, "FormatError", PyExc_ValueError);
  m.def("parse_file", &parse_file, nb::arg("bytes"),
        "The content of a .tvx file as dictionaries and arrays. Raises FormatError.");
  m.def("rans_encode", &encode, nb::arg("codes"), nb::arg("entries"),
        "Entropy-coded uint8 codes, each below `entries`.");
  m.def("rans_decode", &decode, nb::arg("bytes"), nb::arg("entries"), nb::arg("count"),
        "The `count` codes that rans_encode was given. Raises FormatError.");
}

}  // namespace tinyvox
