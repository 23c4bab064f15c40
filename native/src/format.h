// The versions of the .tvx format, and the limits on what its records say.
#pragma once

#include <cstdint>

namespace tinyvox {

// The first versions with products that share a factor, with projected LSTMs, and with repeated
// layers, products of signals, reductions over time, softmax, most activations and a noise floor;
// with slices, more activations, and cells with other functions and with peepholes; and with
// pooling, values by their places, frames taken apart, one frame for all, more reductions, softmax
// over time, reciprocals, norms of groups and by the root of the mean square, token ids,
// cells that normalize, and inputs of matrices in 16 bits.
inline constexpr uint32_t sharing_version = 3, projecting_version = 4, gating_version = 5,
                          varying_version = 6, signals_version = 7;
inline constexpr uint32_t newest_version = signals_version;

inline constexpr uint32_t max_name = 255;            // bytes of a name or a token
inline constexpr uint32_t max_dimension = 1u << 20;  // rows or columns
inline constexpr uint32_t max_span = 4096;           // kernels, strides, paddings, contexts
inline constexpr uint32_t max_inputs = 64;           // of one node
inline constexpr uint32_t max_tokens = 1u << 16;
inline constexpr uint32_t max_depth = 4;             // of products
inline constexpr uint64_t max_matrix = 1ull << 28;   // weights of one matrix
inline constexpr uint64_t max_weights = 1ull << 29;  // weights of one file
inline constexpr uint64_t max_signal = 1u << 20;     // values of a frame; input frames for a frame
inline constexpr uint64_t max_memory = 1u << 26;     // values that the frames of a whole model hold

}  // namespace tinyvox
