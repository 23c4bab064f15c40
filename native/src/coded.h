// The record of a coded matrix: codes, codebook, scales, and how the codes are packed.
#pragma once

#include <cstdint>

#include "budget.h"
#include "bytes.h"
#include "file.h"

namespace tinyvox {

inline constexpr uint64_t max_codes_a_byte = 4096;  // in an entropy-coded payload
inline constexpr uint32_t max_groups = 256;         // of rows
inline constexpr uint32_t max_binary_bits = 8;

// The flags of a coded tensor, in the first byte of its record.
struct CodedFlags {
  bool half_scales, half_levels, scale_a_group, model_a_group;
};

// Reads the record after its first byte, rows and columns. These three are already in `tensor`.
void read_coded(Reader& reader, Budget& budget, Tensor& tensor, const CodedFlags& flags);

}  // namespace tinyvox
