// Bounds-checked reading of little-endian bytes. Every error is a FormatError of one line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "file.h"

namespace tinyvox {

[[noreturn]] void fail(const std::string& message);
[[noreturn]] void fail(const char* message);  // callers make no string, and are smaller

// Called in a catch block of a FormatError: raises it again, with its place before the message.
[[noreturn]] void fail_within(const std::string& place);

// CRC-32 as in zlib and PNG.
uint32_t crc32(std::span<const uint8_t> bytes);

inline uint32_t load_u16(const uint8_t* p) { return p[0] | p[1] << 8; }
inline uint32_t load_u32(const uint8_t* p) { return load_u16(p) | load_u16(p + 2) << 16; }

class Reader {
 public:
  explicit Reader(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  size_t position() const { return position_; }
  size_t left() const { return bytes_.size() - position_; }

  std::span<const uint8_t> take(uint64_t count);
  uint8_t u8() { return take(1)[0]; }
  uint32_t u32() { return load_u32(take(4).data()); }
  uint64_t u64();

  // LEB128 in its shortest form, within [least, most]. The error calls the number `what`.
  uint32_t varint(const char* what, uint32_t least, uint32_t most);

  // Finite numbers: float16 if `half`, else float32.
  std::vector<float> floats(uint64_t count, bool half);
  float f32() { return floats(1, false)[0]; }

  // UTF-8 of at most `most` bytes, with its length before it.
  std::string text(const char* what, uint32_t most);

  // Raises if bytes are left.
  void finish() const;

 private:
  std::span<const uint8_t> bytes_;
  size_t position_ = 0;
};

// The eight bytes of zero at the end of what load_bits reads. Raises unless nothing follows.
void read_padding(Reader& reader);

// Raises unless the bytes are well-formed UTF-8 (The Unicode Standard, table 3-7).
void check_utf8(const char* what, std::span<const uint8_t> bytes);

}  // namespace tinyvox
