#include "mutate.h"

#include <algorithm>

#include "fit.h"
#include "records.h"
#include "tensors.h"

namespace tinyvox::fuzz {
namespace {

constexpr uint32_t kinds = layer_kinds;
constexpr size_t most_nodes = 12;
constexpr uint32_t most_size = 96;  // rows, columns, ranks
constexpr uint32_t newest = newest_version;

struct Context {
  File& file;
  const File* other;  // may be null
  Random& random;
};

Node& any_node(Context c) { return c.random.pick(c.file.nodes); }

// A tensor that is there, or null.
Tensor* any_tensor(Context c) {
  std::vector<Tensor*> found;
  for (Node& node : c.file.nodes)
    for (Tensor& tensor : node.tensors)
      if (tensor) found.push_back(&tensor);
  return found.empty() ? nullptr : c.random.pick(found);
}

Tensor* any_leaf(Context c) {
  std::vector<Tensor*> found;
  if (Tensor* tensor = any_tensor(c))
    for_each_leaf(*tensor, [&](Tensor& leaf) { found.push_back(&leaf); });
  return found.empty() ? nullptr : c.random.pick(found);
}

// Numbers.

void change_floats(std::vector<float>& values, Random& random) {
  if (values.empty()) return;
  const float extreme = random.extreme();
  const uint32_t way = random.below(4);
  if (way == 0) std::ranges::fill(values, extreme);
  if (way == 1) random.pick(values) = extreme;
  if (way == 2) random.pick(values) = random.real(2);
  const float factor = random.one_in(2) ? -1.0f : extreme;
  if (way == 3)
    for (float& value : values) value *= factor;
}

void change_values(Context c) {
  Tensor* leaf = any_leaf(c);
  if (!leaf) return;
  change_floats(leaf->kind == TensorKind::coded && c.random.one_in(2) ? leaf->scale
                : leaf->levels.empty()                                ? leaf->values
                                                                      : leaf->levels,
                c.random);
}

void change_codes(Context c) {
  Tensor* leaf = any_leaf(c);
  if (!leaf || leaf->codes.empty()) return;
  const auto any = [&] { return static_cast<uint8_t>(c.random.below(leaf->entries)); };
  if (c.random.one_in(4))
    std::ranges::fill(leaf->codes, any());
  else
    for (uint32_t left = c.random.size(16); left > 0; --left) c.random.pick(leaf->codes) = any();
  if (!leaf->zero.empty()) c.random.pick(leaf->zero) = any();
  if (!leaf->group.empty())
    c.random.pick(leaf->group) = static_cast<uint8_t>(c.random.below(leaf->groups));
}

void change_number(Context c) { change_floats(any_node(c).floats, c.random); }

void change_setting(Context c) {
  constexpr uint32_t ends[] = {0, 1, 2, 3, 4, 5, 7, 8, 16, 31, 32, 33, 4095, 4096, 4097};
  Node& node = any_node(c);
  if (!node.ints.empty()) c.random.pick(node.ints) = c.random.pick(ends);
}

// Shapes.

void change_input_size(Context c) { c.file.input_size = c.random.size(most_size); }

void change_shape(Context c) {
  Tensor* tensor = any_tensor(c);
  if (!tensor || tensor->kind == TensorKind::vector) return;
  if (tensor->left && c.random.one_in(2)) {  // the rank
    const uint32_t rank = c.random.size(most_size);
    resize_matrix(*tensor->left, tensor->rows, rank, c.random);
    tensor->right = std::make_shared<Tensor>(copy(*tensor->right));
    return resize_matrix(*tensor->right, rank, tensor->columns, c.random);
  }
  const uint32_t rows = c.random.one_in(2) ? tensor->rows : c.random.size(most_size);
  resize_matrix(*tensor, rows, c.random.size(most_size), c.random);
}

void change_matrix(Context c) {
  Tensor* tensor = any_tensor(c);
  if (tensor && tensor->kind != TensorKind::vector)
    *tensor = make_matrix(tensor->rows, tensor->columns, c.random);
}

// Makes a tensor present or absent. A cell has one where its weight_hh is.
void toggle_tensor(Context c) {
  Node& node = any_node(c);
  if (node.tensors.empty()) return;
  Tensor& tensor = c.random.pick(node.tensors);
  if (tensor) {
    tensor = {};
    return;
  }
  const size_t slot = static_cast<size_t>(&tensor - node.tensors.data()) % cell_tensors;
  const bool of_cell = node.kind == LayerKind::recurrent && (slot < 2 || slot == 4);
  const bool matrix = of_cell || node.kind == LayerKind::embedding;
  tensor = matrix ? make_matrix(1, c.random.size(24), c.random) : make_vector(1, c.random);
}

// Gives two matrices of one width a right factor that both use.
void share_factor(Context c) {
  Tensor *first = any_tensor(c), *second = any_tensor(c);
  if (!first || first == second || first->kind == TensorKind::vector) return;
  const uint32_t rank = c.random.size(8), columns = first->columns;
  auto right = std::make_shared<Tensor>(make_matrix(rank, columns, c.random));
  for (Tensor* tensor : {first, second}) {
    if (tensor->columns != columns) continue;
    Tensor product;
    product.kind = TensorKind::product;
    product.rows = tensor->rows;
    product.columns = columns;
    product.left = std::make_unique<Tensor>(make_matrix(tensor->rows, rank, c.random));
    product.right = right;
    *tensor = std::move(product);
  }
}

// Layers.

Node copy(const Node& from) {
  Node to{from.name, from.kind,    from.inputs, from.ints, from.floats,
          {},        from.repeats, from.signal, 0,         from.tied};
  for (const Tensor& tensor : from.tensors) to.tensors.push_back(fuzz::copy(tensor));
  return to;
}

// Layers after the place read the layers that they read before.
void insert(Context c, Node node) {
  if (c.file.nodes.size() >= most_nodes) return;
  const uint32_t at = c.random.below(c.file.nodes.size() + 1);
  if (c.random.one_in(2)) node.inputs.assign(std::max<size_t>(1, node.inputs.size()), at);
  for (Node& later : std::span(c.file.nodes).subspan(at))
    for (uint32_t& input : later.inputs)
      if (input > at || (input == at && c.random.one_in(2))) ++input;
  c.file.nodes.insert(c.file.nodes.begin() + at, std::move(node));
}

void add_node(Context c) {
  Node node{"new", static_cast<LayerKind>(c.random.below(kinds)), {0}, {}, {}, {}, {}, {}, 0, {}};
  node.ints.resize(11);
  for (uint32_t& setting : node.ints) setting = c.random.below(6);
  if (node.kind == LayerKind::recurrent && c.random.one_in(2)) {
    node.tensors.resize(2 * cell_tensors);
    node.tensors[cell_tensors + 1] = make_matrix(1, c.random.size(24), c.random);
  }
  insert(c, std::move(node));
}

void copy_node(Context c) { insert(c, copy(any_node(c))); }

// The very layer of a node once more, at the end.
void repeat_node(Context c) {
  if (c.file.nodes.size() >= most_nodes) return;
  const auto last = static_cast<uint32_t>(c.file.nodes.size());
  c.file.nodes.push_back(
      {"again", LayerKind::linear, {last}, {}, {}, {}, c.random.below(last), {}, 0, {}});
}

// A linear layer at the end, with the table of an embedding.
void tie_node(Context c) {
  if (c.file.nodes.size() >= most_nodes) return;
  const auto last = static_cast<uint32_t>(c.file.nodes.size());
  for (uint32_t i = 0; i < last; ++i)
    if (c.file.nodes[i].kind == LayerKind::embedding)
      return c.file.nodes.push_back({"tied", LayerKind::linear, {last}, {}, {}, {}, {}, {}, 0, i});
}

void graft_node(Context c) {
  if (c.other) insert(c, copy(c.random.pick(c.other->nodes)));
}

void remove_node(Context c) {
  if (c.file.nodes.size() < 2) return;
  const uint32_t at = c.random.below(c.file.nodes.size());
  c.file.nodes.erase(c.file.nodes.begin() + at);
  for (Node& later : std::span(c.file.nodes).subspan(at))
    for (uint32_t& input : later.inputs) input -= input > at;
}

void swap_nodes(Context c) { std::swap(any_node(c), any_node(c)); }

void change_inputs(Context c) {
  Node& node = any_node(c);
  if (joins(node.kind) && node.inputs.size() < 6 && c.random.one_in(2)) node.inputs.push_back(0);
  const auto at = static_cast<uint32_t>(&node - c.file.nodes.data());
  c.random.pick(node.inputs) = c.random.below(at + 1);
}

void change_kind(Context c) { any_node(c).kind = static_cast<LayerKind>(c.random.below(kinds)); }

// What is around the model.

void toggle_card(Context c) {
  if (c.file.speech) {
    c.file.speech.reset();
    return;
  }
  Speech& speech = c.file.speech.emplace();
  speech.features.kind = static_cast<FeatureKind>(c.random.below(3));
  speech.log_probabilities = c.random.one_in(2);
}

void change_card(Context c) {
  constexpr uint32_t rates[] = {1000, 8000, 16000, 44100, 192000};
  constexpr float times[] = {0.1f, 1, 2, 10, 20, 25, 32, 100, 1000};
  if (!c.file.speech) return;
  FeatureConfig& features = c.file.speech->features;
  features.kind = static_cast<FeatureKind>(c.random.below(3));
  features.sample_rate = c.random.pick(rates);
  (c.random.one_in(2) ? features.window_ms : features.hop_ms) = c.random.pick(times);
  (c.random.one_in(2) ? features.low_hz : features.high_hz) =
      c.random.real(static_cast<float>(features.sample_rate));
  if (c.random.one_in(4)) features.mean.resize(1), features.deviation.resize(1, 1.0f);
  change_floats(c.random.one_in(2) ? features.mean : features.deviation, c.random);
  features.bands = c.random.size(256);
  if (c.random.one_in(4)) features.noise_floor_db = -c.random.real(150);
}

void change_tokens(Context c) {
  constexpr const char* tokens[] = {"", " ", "a", "\xC3\xA9", "\xE2\x96\x81", "|", "\xFF", "\n"};
  if (!c.file.speech || c.file.speech->tokens.empty()) return;
  c.random.pick(c.file.speech->tokens) = c.random.pick(tokens);
  c.file.speech->blank = c.random.below(c.file.speech->tokens.size());
}

void change_texts(Context c) {
  constexpr const char* texts[] = {"", "input", "{\"a\":1}", "\xF0\x9F\x98\x80", "\xED\xA0\x80"};
  if (c.random.one_in(2)) any_node(c).name = c.random.pick(texts);
  c.file.metadata = c.random.pick(texts);
}

constexpr void (*changes[])(Context) = {
    change_values,  change_values, change_values, change_codes,  change_number, change_setting,
    change_setting, change_shape,  change_shape,  change_matrix, toggle_tensor, change_input_size,
    share_factor,   add_node,      copy_node,     repeat_node,   tie_node,      graft_node,
    remove_node,    swap_nodes,    change_inputs, change_kind,   toggle_card,   change_card,
    change_tokens,  change_texts};

// The file that the bytes hold, or none.
std::optional<File> try_to_parse(std::span<const uint8_t> bytes) {
  try {
    return parse(bytes);
  } catch (const FormatError&) {
    return {};
  }
}

uint32_t any_version(const File& file, Random& random) {
  const uint32_t least = version_for(file);
  return random.one_in(20) ? random.below(newest + 2) : random.between(least, newest);
}

// Empty if the file has no form that can be written.
Bytes change_records(File& file, const File* other, Random& random) {
  const Context context{file, other, random};
  for (uint32_t left = random.size(4); left > 0; --left) random.pick(changes)(context);
  if (!random.one_in(10)) fit(file, random);
  try {
    return write(file, any_version(file, random), random);
  } catch (const FormatError&) {
    return {};
  }
}

// Changes bytes of one section. The checksums are right afterwards.
Bytes change_section(std::span<const uint8_t> file, Random& random) {
  std::vector<Section> sections = sections_of(file);
  if (sections.empty()) return {};
  mutate_bytes(random.pick(sections).bytes, random);
  return seal(sections, version_of(file));
}

}  // namespace

Bytes mutate(std::span<const uint8_t> bytes, std::span<const uint8_t> other, size_t most,
             Random& random) {
  Bytes result;
  const uint32_t way = random.below(16);
  if (auto file = way < 14 ? try_to_parse(bytes) : std::nullopt) {
    const auto donor = way < 4 ? try_to_parse(other) : std::nullopt;
    result = change_records(*file, donor ? &*donor : nullptr, random);
  }
  if (result.empty() || way == 13) result = change_section(result.empty() ? bytes : result, random);
  if (result.empty() || way == 15) {
    result.assign(bytes.begin(), bytes.end());
    mutate_bytes(result, random);
  }
  if (result.size() > most)
    result.assign(bytes.begin(), bytes.begin() + std::min(most, bytes.size()));
  return result;
}

}  // namespace tinyvox::fuzz
