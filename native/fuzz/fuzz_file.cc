// For any bytes, `parse` returns a file or raises FormatError, and reads nothing outside them.
//
// Every input is tried twice: unchanged, and with its sizes and checksums corrected, so that
// mutations reach the records.
#include <cstring>
#include <span>
#include <vector>

#include "bytes.h"
#include "file.h"

namespace {

using tinyvox::crc32;
using tinyvox::load_u32;

constexpr size_t header = 24, entry = 24;

void put(std::vector<uint8_t>& bytes, size_t at, uint64_t value, size_t width) {
  for (size_t i = 0; i < width; ++i) bytes[at + i] = static_cast<uint8_t>(value >> 8 * i);
}

// The sections keep their lengths if these fit; the last one takes the rest.
void mend(std::vector<uint8_t>& bytes) {
  constexpr uint8_t magic[] = {0x89, 'T', 'V', 'X', '\r', '\n', 0x1A, '\n'};
  if (bytes.size() < header + 3 * entry + 4) return;
  std::memcpy(bytes.data(), magic, sizeof magic);
  put(bytes, 8, 2 + bytes[8] % 2, 4);  // version 2 or 3
  const uint32_t count = load_u32(&bytes[12]) % 4;
  put(bytes, 12, count, 4);
  put(bytes, 16, bytes.size(), 8);
  size_t offset = header + count * entry + 4;
  for (uint32_t i = 0; i < count; ++i) {
    const size_t at = header + i * entry, left = bytes.size() - offset;
    const size_t length = i + 1 == count ? left : load_u32(&bytes[at + 16]) % (left + 1);
    put(bytes, at + 4, crc32(std::span(bytes).subspan(offset, length)), 4);
    put(bytes, at + 8, offset, 8);
    put(bytes, at + 16, length, 8);
    offset += length;
  }
  const size_t covered = header + count * entry;
  put(bytes, covered, crc32(std::span(bytes).first(covered)), 4);
}

void try_to_parse(std::span<const uint8_t> bytes) {
  try {
    tinyvox::parse(bytes);
  } catch (const tinyvox::FormatError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try_to_parse({data, size});
  std::vector<uint8_t> mended(data, data + size);
  mend(mended);
  try_to_parse(mended);
  return 0;
}
