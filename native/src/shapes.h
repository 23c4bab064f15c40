// Whether a layer fits its inputs: the rules of `Layer.infer` in src/tinyvox/layers.py, and limits.
#pragma once

#include <cstdint>
#include <span>

#include "file.h"

namespace tinyvox {

inline constexpr uint64_t max_signal = 1u << 20;  // values of a frame; input frames to a frame
inline constexpr uint64_t max_memory = 1u << 26;  // values that the frames of a whole model hold

// The node's output for these inputs; raises FormatError where they do not fit. Of the node, all
// but `signal` is set, and its slots are right.
Signal infer(const Node& node, std::span<const Signal> inputs);

// How many values the node holds between frames, its own output included.
uint64_t memory(const Node& node, const Signal& input);

}  // namespace tinyvox
