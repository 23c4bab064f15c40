// The sections of a file in their order.
#include "file.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <unordered_set>

#include "budget.h"
#include "bytes.h"
#include "card.h"
#include "layers/type.h"
#include "records.h"

namespace tinyvox {
namespace {

constexpr std::array<std::string_view, 3> section_tags{"MODL", "SPCH", "META"};
constexpr std::array<const char*, 3> section_names{"model", "speech", "metadata"};
constexpr uint32_t max_nodes = 4096;
constexpr uint32_t max_metadata = 1u << 24;

void read_model(Reader& reader, File& file, uint32_t version, Budget& budget) {
  file.input_size = reader.varint("input size", 1, max_signal);
  const uint32_t count = reader.varint("number of layers", 1, max_nodes);
  std::vector<Signal> signals{{file.input_size, 0, 1}};
  std::unordered_set<std::string> names{"", "input"};
  NodeReader nodes(reader, version, file.nodes, budget);
  uint64_t values = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const Node& node = file.nodes.emplace_back(nodes.read(signals));
    if (!names.insert(node.name).second)
      fail("layer name '" + node.name + "' is used twice, reserved or empty");
    values += memory(node, signals[node.inputs[0]]);
    if (values > max_memory)
      fail("layer '" + node.name + "': the frames of the model hold more than 2^26 values");
    signals.push_back(node.signal);
  }
}

void check_speech(const File& file) {
  for (const Node& node : file.nodes)
    if (node.kind == LayerKind::embedding) fail("a model that takes token ids has no speech card");
  const Signal& output = file.nodes.back().signal;
  if (file.speech->features.size() != file.input_size)
    fail("features of " + std::to_string(file.speech->features.size()) +
         " values, but the model takes " + std::to_string(file.input_size));
  if (output.bands || output.channels != file.speech->tokens.size())
    fail(std::to_string(file.speech->tokens.size()) + " tokens, but the model puts out " +
         std::to_string(output.size()) + " values");
}

// The bytes of the model's section that are not in its nodes.
uint64_t model_overhead(const File& file, uint64_t section_bytes) {
  for (const Node& node : file.nodes) {
    section_bytes -= node.file_bytes;
    for (const Tensor& tensor : node.tensors) section_bytes -= tensor.file_bytes;
  }
  return section_bytes;
}

void read_metadata(Reader& reader, File& file) {
  const auto bytes = reader.take(reader.left());
  if (bytes.size() > max_metadata) fail("longer than 2^24 bytes");
  check_utf8("text", bytes);
  file.metadata.assign(bytes.begin(), bytes.end());
}

void read_section(size_t which, std::span<const uint8_t> bytes, uint32_t version, File& file,
                  Budget& budget) {
  Reader reader(bytes);
  uint64_t overhead = bytes.size();
  if (which == 0) {
    read_model(reader, file, version, budget);
    overhead = model_overhead(file, overhead);
  } else if (which == 1) {
    file.speech = read_speech(reader, version);
    check_speech(file);
  } else {
    read_metadata(reader, file);
  }
  reader.finish();
  file.overhead.emplace_back(section_names[which], overhead);
}

}  // namespace

const FileKind tvx_file{"tinyvox file", magic_of('T', 'V', 'X'), 2, newest_version, 3};

File parse(std::span<const uint8_t> bytes) {
  Budget budget(default_memory(bytes.size()));
  return parse(bytes, budget);
}

File parse(std::span<const uint8_t> bytes, Budget& budget) {
  const auto [version, sections] = read_container(tvx_file, bytes);
  if (sections[0].tag != section_tags[0]) fail("the first section is not MODL");
  File file;
  file.overhead = {{"header", header_bytes},
                   {"section table", sections.size() * section_entry_bytes + checksum_bytes}};
  size_t which = 0;
  for (const SectionView& section : sections) {
    while (which < section_tags.size() && section_tags[which] != section.tag) ++which;
    if (which == section_tags.size()) fail("sections are not MODL, SPCH, META in this order");
    try {
      read_section(which, section.bytes, version, file, budget);
    } catch (const FormatError&) {
      fail_within(section_names[which]);
    }
    ++which;
  }
  return file;
}

}  // namespace tinyvox
