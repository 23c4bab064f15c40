#include "container.h"

#include <algorithm>
#include <string>

#include "budget.h"
#include "bytes.h"

namespace tinyvox {
namespace {

constexpr uint64_t max_file = uint64_t{1} << 32;  // 2^29 weights of 4 bytes take half of it

std::string hex(std::span<const uint8_t> bytes) {
  std::string text;
  for (uint8_t byte : bytes) {
    if (!text.empty()) text += ' ';
    text += "0123456789ABCDEF"[byte >> 4];
    text += "0123456789ABCDEF"[byte & 15];
  }
  return text;
}

std::string wrong_kind(const FileKind& kind) { return std::string("not a ") + kind.name; }

void check_magic(const FileKind& kind, std::span<const uint8_t> bytes) {
  if (bytes.empty()) fail(wrong_kind(kind) + " (it is empty)");
  const auto start = bytes.first(std::min(bytes.size(), kind.magic.size()));
  if (std::equal(start.begin(), start.end(), kind.magic.begin())) return;
  if (start.size() == kind.magic.size() && std::equal(&kind.magic[1], &kind.magic[4], &start[1]))
    fail("damaged in transfer (starts with " + hex(start) + "); copy it again as binary");
  fail(wrong_kind(kind) + " (starts with " + hex(start) + ")");
}

void check_version(const FileKind& kind, uint32_t version) {
  if (version < kind.oldest_version || version > kind.newest_version)
    fail("is of version " + std::to_string(version) + ", this tinyvox reads versions " +
         std::to_string(kind.oldest_version) + " to " + std::to_string(kind.newest_version) +
         "; update tinyvox or write the file again");
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
  uint64_t end = header_bytes + count * section_entry_bytes + checksum_bytes;
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

}  // namespace

uint64_t size_in_header(const FileKind& kind, std::span<const uint8_t> start) {
  check_magic(kind, start);
  if (start.size() < header_bytes)
    fail("truncated: " + std::to_string(start.size()) + " bytes, a header has 24");
  Reader reader(start);
  reader.take(kind.magic.size());
  check_version(kind, reader.u32());
  reader.u32();
  const uint64_t size = reader.u64();
  if (size > max_file) fail("says that it has " + grouped(size) + " bytes, expected 2^32 at most");
  return size;
}

Container read_container(const FileKind& kind, std::span<const uint8_t> bytes) {
  check_size(bytes, size_in_header(kind, bytes));
  Reader reader(bytes);
  reader.take(kind.magic.size());
  const uint32_t version = reader.u32(), count = reader.u32();
  reader.u64();
  if (count < 1 || count > kind.most_sections)
    fail("has " + std::to_string(count) + " sections, expected 1 to " +
         std::to_string(kind.most_sections));
  const size_t covered = header_bytes + count * section_entry_bytes;
  if (bytes.size() < covered + checksum_bytes) fail("too short for its section table");
  if (Reader tail(bytes.subspan(covered)); tail.u32() != crc32(bytes.first(covered)))
    fail("the header is damaged: its checksum does not match");
  return {version, read_table(reader, bytes, count)};
}

}  // namespace tinyvox
