// Whether a layer fits its inputs: the rules of `Layer.infer` in src/tinyvox/model/layers.py, and
// limits.
#pragma once

#include <cstdint>
#include <span>

#include "file.h"

namespace tinyvox {

inline constexpr uint64_t max_signal = 1u << 20;  // values of a frame; input frames for a frame
inline constexpr uint64_t max_memory = 1u << 26;  // values that the frames of a whole model hold

// The output of a node for these inputs. All fields of the node but `signal` must be set, and its
// tensors of the right kinds. Raises FormatError if node and inputs do not fit.
Signal infer(const Node& node, std::span<const Signal> inputs);

// How many values the node keeps between frames, with its own output.
uint64_t memory(const Node& node, const Signal& input);

}  // namespace tinyvox
