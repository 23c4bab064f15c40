#include "bytes.h"

#include <array>
#include <cmath>
#include <limits>

#include "budget.h"

namespace tinyvox {
namespace {

// Table n holds, for each byte, its effect on the checksum n bytes later.
using CrcTables = std::array<std::array<uint32_t, 256>, 8>;

CrcTables make_crc_tables() {
  CrcTables tables{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t sum = i;
    for (int bit = 0; bit < 8; ++bit) sum = sum & 1 ? 0xEDB88320u ^ (sum >> 1) : sum >> 1;
    tables[0][i] = sum;
  }
  for (size_t n = 1; n < 8; ++n)
    for (size_t i = 0; i < 256; ++i)
      tables[n][i] = tables[0][tables[n - 1][i] & 0xFF] ^ (tables[n - 1][i] >> 8);
  return tables;
}

// A subnormal float16 becomes a product of two normal floats, so that a processor in the mode that
// flushes subnormals to zero reads the same number. Infinity and NaN both give infinity.
float from_half(uint32_t half) {
  const uint32_t exponent = half >> 10 & 31, fraction = half & 1023;
  float magnitude = std::numeric_limits<float>::infinity();
  if (exponent == 0) {
    magnitude = static_cast<float>(fraction) * 0x1p-24f;
  } else if (exponent < 31) {
    magnitude = __builtin_bit_cast(float, (exponent + 112) << 23 | fraction << 13);
  }
  return half & 0x8000 ? -magnitude : magnitude;
}

// The length of the well-formed sequence that starts here, or 0.
size_t sequence_length(std::span<const uint8_t> s) {
  const uint8_t lead = s[0];
  if (lead < 0x80) return 1;
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (lead < 0xC2 || lead > 0xF4 || s.size() < length) return 0;
  for (size_t i = 1; i < length; ++i)
    if (s[i] >> 6 != 0b10) return 0;
  const bool overlong = (lead == 0xE0 && s[1] < 0xA0) || (lead == 0xF0 && s[1] < 0x90);
  const bool surrogate = lead == 0xED && s[1] >= 0xA0;
  const bool beyond_unicode = lead == 0xF4 && s[1] >= 0x90;
  return overlong || surrogate || beyond_unicode ? 0 : length;
}

}  // namespace

void fail(const std::string& message) { throw FormatError(message); }

void fail(const char* message) { throw FormatError(message); }

void fail_within(const std::string& place) {
  try {
    throw;
  } catch (const LimitError& error) {
    throw LimitError(place + ": " + error.what());
  } catch (const FormatError& error) {
    throw FormatError(place + ": " + error.what());
  }
}

uint32_t crc32(std::span<const uint8_t> bytes) {
  // Made when the first file is read, so that the library need not hold them.
  static const CrcTables tables = make_crc_tables();
  uint32_t crc = ~0u;
  const uint8_t* byte = bytes.data();
  const uint8_t* const end = byte + bytes.size();
  for (; end - byte >= 8; byte += 8) {
    const uint32_t sums[] = {crc ^ load_u32(byte), load_u32(byte + 4)};
    crc = 0;
    for (size_t n = 0; n < 8; ++n) crc ^= tables[7 - n][sums[n / 4] >> 8 * (n % 4) & 0xFF];
  }
  for (; byte != end; ++byte) crc = tables[0][(crc ^ *byte) & 0xFF] ^ (crc >> 8);
  return ~crc;
}

std::span<const uint8_t> Reader::take(uint64_t count) {
  if (count > left())
    fail("needs " + std::to_string(count) + " more bytes where " + std::to_string(left()) +
         " are left");
  const auto taken = bytes_.subspan(position_, count);
  position_ += count;
  return taken;
}

uint64_t Reader::u64() {
  const uint64_t low = u32();
  return low | static_cast<uint64_t>(u32()) << 32;
}

uint32_t Reader::varint(const char* what, uint32_t least, uint32_t most) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const uint8_t byte = u8();
    value |= static_cast<uint64_t>(byte & 127) << shift;
    const bool longer = byte & 128;
    if ((longer && shift == 28) || (!longer && byte == 0 && shift > 0))
      fail(std::string(what) + " is not written in its shortest form");
    if (!longer) break;
  }
  if (value < least || value > most)
    fail(std::string(what) + " is " + std::to_string(value) + ", expected " +
         std::to_string(least) + " to " + std::to_string(most));
  return static_cast<uint32_t>(value);
}

std::vector<float> Reader::floats(uint64_t count, bool half) {
  const size_t width = half ? 2 : 4;
  const uint8_t* source = take(count * width).data();
  std::vector<float> values(count);
  for (float& value : values) {
    value = half ? from_half(load_u16(source)) : __builtin_bit_cast(float, load_u32(source));
    if (!std::isfinite(value)) fail("holds NaN or infinity");
    source += width;
  }
  return values;
}

std::string Reader::text(const char* what, uint32_t most) {
  const auto bytes = take(varint((std::string(what) + " length").c_str(), 0, most));
  check_utf8(what, bytes);
  return std::string(bytes.begin(), bytes.end());
}

void Reader::finish() const {
  if (left()) fail("has " + std::to_string(left()) + " bytes too many");
}

void read_padding(Reader& reader) {
  if (reader.u64() != 0) fail("does not end with eight bytes of zero");
  reader.finish();
}

void check_utf8(const char* what, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const size_t length = sequence_length(bytes);
    if (!length) fail(std::string(what) + " is not UTF-8");
    bytes = bytes.subspan(length);
  }
}

}  // namespace tinyvox
