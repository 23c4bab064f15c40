// The bytes of a file: mapped into memory if the system can do that, else read (as from a pipe).
#pragma once

#include <cstdint>
#include <cstdio>
#include <span>
#include <vector>

#include "file.h"

namespace tinyvox {

class MappedFile {
 public:
  // Raises std::system_error: "cannot be read: " and the system's reason. What cannot be mapped is
  // read as far as its first bytes say, so that an endless pipe or device ends: raises FormatError
  // if they are not those of a file of this kind.
  explicit MappedFile(const char* path, const FileKind& kind = tvx_file);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const uint8_t> bytes() const { return mapped_.empty() ? read_ : mapped_; }

 private:
  bool map(std::FILE* file);
  void read(std::FILE* file, const FileKind& kind);
  void read_until(std::FILE* file, uint64_t size);

  std::span<const uint8_t> mapped_;
  std::vector<uint8_t> read_;
};

}  // namespace tinyvox
