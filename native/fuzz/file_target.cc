// For any bytes: either they are refused with one line, or the model runs, and gives the same
// outputs however its input is cut, again after a reset, and on every instruction set. Kernels.h
// says what the sets promise: the same to the last bit, but for float matrices, whose sums may be
// rounded differently.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "bytes.h"
#include "cost.h"
#include "runner.h"
#include "target.h"
#include "tinyvox.h"

namespace tinyvox::fuzz {
namespace {

using Values = std::vector<float>;

constexpr Cost most{1 << 19, 1 << 19, 300, 1 << 20, 1 << 15, 1 << 13};
constexpr uint64_t most_products = 1 << 22;
constexpr size_t frames_beyond = 6;  // after every layer has seen a whole window

bool affordable(const Cost& cost) {
  return cost.weights <= most.weights && cost.products <= most.products && cost.span <= most.span &&
         cost.waiting <= most.waiting && cost.products * (cost.span + 8) <= most_products;
}

void expect(bool right, const char* what) {
  if (!right) fault(what);
}

void expect_one_line(const std::string& message) {
  expect(!message.empty() && message.size() < 1000, "the length of an error");
  expect(std::ranges::none_of(message, [](char c) { return c == '\n' || c == '\r' || c == 0; }),
         message.c_str());
}

// The bytes of all parts add up to the file.
void expect_breakdown(const File& file, size_t size) {
  uint64_t total = 0;
  for (const auto& [name, bytes] : file.overhead) total += bytes;
  for (const Node& node : file.nodes) {
    total += node.file_bytes;
    for (const Tensor& tensor : node.tensors) total += tensor.file_bytes;
  }
  if (total != size)
    fault("parts of " + std::to_string(total) + " bytes in a file of " + std::to_string(size));
}

bool same(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) ||
         (std::isnan(a) && std::isnan(b));
}

void expect_same(const Values& found, const Values& expected, const char* isa, const char* what) {
  if (std::ranges::equal(found, expected, same)) return;
  const std::string where = isa + std::string(what);
  if (found.size() != expected.size())
    fault(where + std::to_string(found.size()) + " values, expected " +
          std::to_string(expected.size()));
  const auto [at, other] = std::ranges::mismatch(found, expected, same);
  fault(where + "value " + std::to_string(at - found.begin()) + " is " + std::to_string(*at) +
        ", expected " + std::to_string(*other));
}

// Finite, and now and then extreme.
Values make_features(size_t count, Random& random) {
  Values features(count);
  const bool hostile = random.one_in(3);
  for (float& value : features) {
    value = random.real(3);
    if (hostile && random.one_in(8)) value = random.extreme();
    if (!std::isfinite(value)) value = 0;
  }
  return features;
}

// Ids of all embeddings, if the model takes token ids.
uint32_t ids_of(const File& file) {
  uint32_t ids = 0;
  for (const Node& node : file.nodes)
    if (node.kind == LayerKind::embedding && !node.repeats)
      ids = ids ? std::min(ids, node.tensors[0].rows) : node.tensors[0].rows;
  return ids;
}

Values make_inputs(const File& file, size_t count, Random& random) {
  Values inputs = make_features(count, random);
  if (const uint32_t ids = ids_of(file))
    for (float& id : inputs) id = static_cast<float>(random.below(ids));
  return inputs;
}

// Every instruction set of this machine, and again with the float product of the reference: so all
// else must be equal to the last bit. The last one is the reference.
struct Set {
  const Kernels& own;
  Kernels with_reference_floats;
};

const std::vector<Set>& sets() {
  static const std::vector<Set> all = [] {
    std::array<const char*, 8> names;
    std::vector<Set> found;
    for (const char* name : std::span(names).first(kernel_names(names.data(), names.size()))) {
      const Kernels& own = *kernels_named(name);
      found.push_back({own, own});
      found.back().with_reference_floats.gemm_f32 = kernels_scalar.gemm_f32;
    }
    return found;
  }();
  return all;
}

// The outputs of one set: in one piece, in pieces, and in others after a reset.
Values run_set(std::span<const uint8_t> bytes, const Kernels& kernels, const Values& features,
               Random random) {
  Runner runner(bytes, kernels);
  Values whole = runner.run(features);
  for (const char* what : {", in pieces: ", ", after a reset: "}) {
    runner.stream.reset();
    expect_same(runner.run(features, &random), whole, kernels.isa, what);
  }
  return whole;
}

// Higham, "Accuracy and stability of numerical algorithms": |error| <= n u / (1 - n u) sum |w x|,
// and where products are subnormal, half of the smallest number each.
void expect_product(const Tensor& tensor, const Values& x, const Values& y, const char* isa) {
  for (size_t row = 0; row < tensor.rows; ++row) {
    double exact = 0, magnitude = 0;
    for (size_t i = 0; i < tensor.columns; ++i) {
      const double product = static_cast<double>(tensor.values[row * tensor.columns + i]) * x[i];
      exact += product;
      magnitude += std::abs(product);
    }
    const double bound = tensor.columns * (0x1.02p-24 * magnitude + 0x1p-149);
    const bool may_overflow = magnitude + bound >= std::numeric_limits<float>::max();
    if (!may_overflow && !(std::abs(y[row] - exact) <= bound))
      fault(isa + std::string(": a product of floats is ") + std::to_string(y[row]) +
            ", expected " + std::to_string(exact));
  }
}

// Checks the float products of a tensor on every set. Returns whether there are any.
bool check_floats(const Tensor& tensor, Random& random) {
  if (tensor.left) {
    const bool left = check_floats(*tensor.left, random);
    return check_floats(*tensor.right, random) || left;
  }
  if (tensor.kind != TensorKind::dense) return false;
  const Values x = make_features(tensor.columns, random);
  Threads alone(1);
  MatrixWork work(alone);
  for (const Set& set : sets()) {
    Values y(tensor.rows);
    const PackedMatrix matrix = Packer(set.own).pack(tensor);
    matrix.reserve(work);
    matrix.apply(x.data(), 1, y.data(), work);
    expect_product(tensor, x, y, set.own.isa);
  }
  return true;
}

bool check_floats(const File& file, Random& random) {
  bool found = false;
  for (const Node& node : file.nodes)
    for (const Tensor& tensor : node.tensors) found |= check_floats(tensor, random);
  return found;
}

void check_sets(std::span<const uint8_t> bytes, const Values& features, bool has_floats,
                Random& random) {
  const Values expected = run_set(bytes, kernels_scalar, features, random);
  for (const Set& set : sets()) {
    if (&set.own == &kernels_scalar) continue;
    const Values own = run_set(bytes, set.own, features, random);
    expect_same(has_floats ? Runner(bytes, set.with_reference_floats).run(features) : own, expected,
                set.own.isa, " beside the reference: ");
  }
}

std::string transcribe(tv_stream* stream, std::span<const int16_t> samples, Random* cuts) {
  while (!samples.empty()) {
    const size_t count = cuts ? std::min<size_t>(samples.size(), cuts->below(700)) : samples.size();
    expect(!tv_stream_feed(stream, samples.data(), count), tv_error_message());
    samples = samples.subspan(count);
  }
  expect(!tv_stream_finish(stream), tv_error_message());
  expect(tv_stream_feed(stream, nullptr, 0) == TV_ERROR_FINISHED, "fed after its end");
  return tv_stream_text(stream);
}

void check_text(const tv_model* model, size_t count, Random& random) {
  tv_stream* stream = nullptr;
  expect(!tv_stream_open(model, &stream), tv_error_message());
  std::vector<int16_t> samples(count);
  for (int16_t& sample : samples) sample = static_cast<int16_t>(random.next());
  const std::string whole = transcribe(stream, samples, nullptr);
  for (int i = 0; i < 2; ++i) {
    tv_stream_reset(stream);
    expect(transcribe(stream, samples, &random) == whole, "the text depends on the pieces");
  }
  tv_stream_close(stream);
}

// A model that takes long to run is opened all the same, or refused for what it would take.
void check_opening(std::span<const uint8_t> bytes) {
  tv_model* model = nullptr;
  if (tv_open_memory(bytes.data(), bytes.size(), &model)) expect_one_line(tv_error_message());
  tv_close(model);
}

// The C API, with audio if the file has a card.
void check_c_api(std::span<const uint8_t> bytes, const File& file, const Cost& cost,
                 Random& random) {
  if (cost.bins > most.bins || cost.samples > most.samples) return check_opening(bytes);
  tv_model* model = nullptr;
  expect(!tv_open_memory(bytes.data(), bytes.size(), &model), tv_error_message());
  if (file.speech) {
    check_text(model, 3 * cost.samples, random);
  } else {
    tv_stream* stream = nullptr;
    expect(tv_stream_open(model, &stream) == TV_ERROR_NO_SPEECH, "a stream without a card");
  }
  tv_close(model);
}

void check_refused(std::span<const uint8_t> bytes, const std::string& message) {
  expect_one_line(message);
  tv_model* model = nullptr;
  expect(tv_open_memory(bytes.data(), bytes.size(), &model) != TV_OK, "C opens what C++ refuses");
  expect(model == nullptr, "a model in spite of an error");
  expect_one_line(tv_error_message());
}

}  // namespace

Reached try_input(std::span<const uint8_t> bytes) {
  Random random(crc32(bytes));
  try {
    const File file = parse(bytes);
    expect_breakdown(file, bytes.size());
    const Cost cost = cost_of(file);
    if (!affordable(cost)) {
      check_opening(bytes);
      return Reached::read;
    }
    const Values features =
        make_inputs(file, (cost.span + random.below(frames_beyond)) * file.input_size, random);
    check_sets(bytes, features, check_floats(file, random), random);
    check_c_api(bytes, file, cost, random);
    return Reached::ran;
  } catch (const FormatError& error) {
    check_refused(bytes, error.what());
    return Reached::refused;
  }
}

Bytes next_input(std::span<const uint8_t> bytes, std::span<const uint8_t> other, size_t size,
                 Random& random) {
  return mutate(bytes, other, size, random);
}

}  // namespace tinyvox::fuzz
