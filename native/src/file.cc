// The container: header, section table and checksums, then the sections in their order.
#include "file.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <unordered_set>

#include "budget.h"
#include "bytes.h"
#include "records.h"
#include "shapes.h"

namespace tinyvox {
namespace {

// As in PNG: a transfer over 7 bits changes the first byte, and one as text changes the line ends.
constexpr std::array<uint8_t, 8> magic{0x89, 'T', 'V', 'X', '\r', '\n', 0x1A, '\n'};
constexpr uint32_t oldest_version = 2;
constexpr size_t entry_bytes = 24;  // tag, checksum, offset, length
constexpr size_t checksum_bytes = 4;
constexpr std::array<std::string_view, 3> section_tags{"MODL", "SPCH", "META"};
constexpr std::array<const char*, 3> section_names{"model", "speech", "metadata"};
constexpr uint32_t max_nodes = 4096;
constexpr uint32_t max_metadata = 1u << 24;
constexpr uint64_t max_file = uint64_t{1} << 32;  // 2^29 weights of 4 bytes take half of it

struct Section {
  std::string_view tag;
  std::span<const uint8_t> bytes;
};

struct Container {
  uint32_t version;
  std::vector<Section> sections;
};

std::string hex(std::span<const uint8_t> bytes) {
  std::string text;
  for (uint8_t byte : bytes) {
    if (!text.empty()) text += ' ';
    text += "0123456789ABCDEF"[byte >> 4];
    text += "0123456789ABCDEF"[byte & 15];
  }
  return text;
}

void check_magic(std::span<const uint8_t> bytes) {
  if (bytes.empty()) fail("not a tinyvox file (it is empty)");
  const auto start = bytes.first(std::min(bytes.size(), magic.size()));
  if (std::equal(start.begin(), start.end(), magic.begin())) return;
  if (start.size() == magic.size() && std::equal(&magic[1], &magic[4], &start[1]))
    fail("damaged in transfer (starts with " + hex(start) + "); copy it again as binary");
  fail("not a tinyvox file (starts with " + hex(start) + ")");
}

uint32_t read_version(Reader& reader) {
  const uint32_t version = reader.u32();
  if (version < oldest_version || version > newest_version)
    fail("is of version " + std::to_string(version) + ", this tinyvox reads versions " +
         std::to_string(oldest_version) + " to " + std::to_string(newest_version) +
         "; update tinyvox or write the file again");
  return version;
}

void check_size(std::span<const uint8_t> bytes, uint64_t expected) {
  if (bytes.size() < expected)
    fail("truncated: " + grouped(bytes.size()) + " bytes, the header says " + grouped(expected));
  if (bytes.size() > expected)
    fail("too long: " + grouped(bytes.size()) + " bytes, the header says " + grouped(expected));
}

// Reads the section table. The sections must follow it in order, without gaps, to the end of the
// file.
std::vector<Section> read_table(Reader& reader, std::span<const uint8_t> bytes, uint32_t count) {
  std::vector<Section> sections;
  std::vector<uint32_t> checksums;
  uint64_t end = header_bytes + count * entry_bytes + checksum_bytes;
  for (uint32_t i = 0; i < count; ++i) {
    const auto tag = reader.take(4);
    checksums.push_back(reader.u32());
    const uint64_t offset = reader.u64(), length = reader.u64();
    if (offset != end || length > bytes.size() - end) fail("sections overlap or leave holes");
    sections.push_back(
        {{reinterpret_cast<const char*>(tag.data()), tag.size()}, bytes.subspan(offset, length)});
    end += length;
  }
  if (end != bytes.size()) fail("the last section does not end where the file ends");
  for (uint32_t i = 0; i < count; ++i)
    if (crc32(sections[i].bytes) != checksums[i])
      fail("section " + std::to_string(i + 1) + " is damaged: its checksum does not match");
  return sections;
}

Container read_container(std::span<const uint8_t> bytes) {
  check_size(bytes, size_in_header(bytes));
  Reader reader(bytes);
  reader.take(magic.size());
  const uint32_t version = reader.u32(), count = reader.u32();
  reader.u64();
  if (count < 1 || count > 3) fail("has " + std::to_string(count) + " sections, expected 1 to 3");
  const size_t covered = header_bytes + count * entry_bytes;
  if (bytes.size() < covered + checksum_bytes) fail("too short for its section table");
  if (Reader tail(bytes.subspan(covered)); tail.u32() != crc32(bytes.first(covered)))
    fail("the header is damaged: its checksum does not match");
  return {version, read_table(reader, bytes, count)};
}

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

uint64_t size_in_header(std::span<const uint8_t> start) {
  check_magic(start);
  if (start.size() < header_bytes)
    fail("truncated: " + std::to_string(start.size()) + " bytes, a header has 24");
  Reader reader(start);
  reader.take(magic.size());
  read_version(reader);
  reader.u32();
  const uint64_t size = reader.u64();
  if (size > max_file) fail("says that it has " + grouped(size) + " bytes, expected 2^32 at most");
  return size;
}

File parse(std::span<const uint8_t> bytes) {
  Budget budget(default_memory(bytes.size()));
  return parse(bytes, budget);
}

File parse(std::span<const uint8_t> bytes, Budget& budget) {
  const auto [version, sections] = read_container(bytes);
  if (sections[0].tag != section_tags[0]) fail("the first section is not MODL");
  File file;
  file.overhead = {{"header", header_bytes},
                   {"section table", sections.size() * entry_bytes + checksum_bytes}};
  size_t which = 0;
  for (const Section& section : sections) {
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
