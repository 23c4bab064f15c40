// The container that all files of tinyvox share: header, section table, checksums, then the
// sections, without gaps, to the end of the file. docs/format.md is the specification.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace tinyvox {

// One kind of file: how it starts, and what a message calls it.
struct FileKind {
  const char* name;
  std::array<uint8_t, 8> magic;
  uint32_t oldest_version, newest_version;
  uint32_t most_sections;
};

struct Section {
  std::string_view tag;
  std::span<const uint8_t> bytes;
};

struct Container {
  uint32_t version;
  std::vector<Section> sections;  // at least one
};

inline constexpr size_t header_bytes = 24;         // magic, version, number of sections, size
inline constexpr size_t section_entry_bytes = 24;  // tag, checksum, offset, length
inline constexpr size_t checksum_bytes = 4;

// As in PNG: a transfer over 7 bits changes the first byte, and one as text changes the line ends.
constexpr std::array<uint8_t, 8> magic_of(char a, char b, char c) {
  const auto byte = [](char letter) { return static_cast<uint8_t>(letter); };
  return {0x89, byte(a), byte(b), byte(c), '\r', '\n', 0x1A, '\n'};
}

// The size of the file that begins with these bytes, header_bytes of them unless it is shorter.
// Raises FormatError unless it is of this kind.
uint64_t size_in_header(const FileKind& kind, std::span<const uint8_t> start);

// The sections, whose checksums match. Raises FormatError.
Container read_container(const FileKind& kind, std::span<const uint8_t> bytes);

}  // namespace tinyvox
