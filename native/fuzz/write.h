// Writes a .tvx file, also one that a reader has to refuse. Not for users: it does not look for the
// shortest form, but for a different one each time.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "file.h"
#include "random.h"

namespace tinyvox::fuzz {

using Bytes = std::vector<uint8_t>;

struct Section {
  std::string tag;
  Bytes bytes;
};

// The bytes of a file of any version. Floats are written as float16 now and then, even where that
// changes their value.
Bytes write(const File& file, uint32_t version, Random& random);

// A file of these sections, with right sizes and checksums.
Bytes seal(std::span<const Section> sections, uint32_t version, const FileKind& kind = tvx_file);

// The version and the sections of a file, as far as they lie within it; its checksums do not
// matter.
uint32_t version_of(std::span<const uint8_t> file);
std::vector<Section> sections_of(std::span<const uint8_t> file);

// The lowest version that can hold the file.
uint32_t version_for(const File& file);

}  // namespace tinyvox::fuzz
