#include "mapped_file.h"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <system_error>

#if __has_include(<sys/mman.h>) && !defined(__EMSCRIPTEN__)
#define TINYVOX_MAPS 1
#include <sys/mman.h>
#include <sys/stat.h>
#endif

namespace tinyvox {
namespace {

struct Close {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

[[noreturn]] void fail() {
  throw std::system_error(errno, std::generic_category(), "cannot be read");
}

}  // namespace

MappedFile::MappedFile(const char* path, const FileKind& kind) {
  const std::unique_ptr<std::FILE, Close> file(std::fopen(path, "rb"));
  if (!file) fail();
  if (!map(file.get())) read(file.get(), kind);
}

#ifdef TINYVOX_MAPS

MappedFile::~MappedFile() {
  if (!mapped_.empty()) munmap(const_cast<uint8_t*>(mapped_.data()), mapped_.size());
}

// False if the file cannot be mapped: a pipe, an empty file, some file systems.
bool MappedFile::map(std::FILE* file) {
  struct stat facts;
  if (fstat(fileno(file), &facts) != 0 || !S_ISREG(facts.st_mode) || facts.st_size == 0)
    return false;
  const auto size = static_cast<size_t>(facts.st_size);
  void* start = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fileno(file), 0);
  if (start == MAP_FAILED) return false;
  mapped_ = {static_cast<const uint8_t*>(start), size};
  return true;
}

#else

MappedFile::~MappedFile() = default;
bool MappedFile::map(std::FILE*) { return false; }

#endif

// A directory can be opened, and fails here.
void MappedFile::read(std::FILE* file, const FileKind& kind) {
  read_until(file, header_bytes);
  read_until(file,
             size_in_header(kind, read_) + 1);  // one more, to see whether the file ends there
}

// Memory grows with what arrives, not with what is announced.
void MappedFile::read_until(std::FILE* file, uint64_t size) {
  uint8_t piece[1 << 14];
  while (read_.size() < size) {
    const size_t wanted = std::min<uint64_t>(sizeof piece, size - read_.size());
    const size_t count = std::fread(piece, 1, wanted, file);
    read_.insert(read_.end(), piece, piece + count);
    if (count == 0) break;
  }
  if (std::ferror(file)) fail();
}

}  // namespace tinyvox
