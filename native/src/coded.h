// The record of a coded matrix: codes, what they stand for, and how they were packed.
#pragma once

#include <cstdint>

#include "bytes.h"
#include "file.h"

namespace tinyvox {

inline constexpr uint64_t max_codes_a_byte = 4096;  // of an entropy-coded payload
inline constexpr uint32_t max_groups = 256;         // of rows
inline constexpr uint32_t max_binary_bits = 8;

// What the flags of a coded tensor mean, in the first byte of its record.
struct CodedFlags {
  bool half_scales, half_levels, scale_a_group, model_a_group;
};

// Reads all but the first byte, rows and columns, which are in `tensor` already.
void read_coded(Reader& reader, Tensor& tensor, const CodedFlags& flags);

}  // namespace tinyvox
