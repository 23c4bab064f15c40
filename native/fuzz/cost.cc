#include "cost.h"

#include <algorithm>
#include <bit>

#include "layers/fields.h"
#include "matrix.h"

namespace tinyvox::fuzz {
namespace {

constexpr uint64_t most_rows_of_panel = 16 * panel_blocks;  // of any instruction set

uint64_t packed(const Tensor& tensor, uint64_t parts) {
  if (tensor.left) return packed(*tensor.left, parts) + packed(*tensor.right, 1);
  const uint64_t rows = tensor.rows / parts;
  const uint64_t whole = (rows + most_rows_of_panel - 1) / most_rows_of_panel * most_rows_of_panel;
  return parts * whole * padded(tensor.columns);
}

bool resets_before(const Node& node) {
  return node.kind == LayerKind::recurrent &&
         fields_of<RecurrentFields>(node).kind == RecurrentKind::gru_reset_before;
}

// Matrices of equal rows that hold at least as much as those that are packed.
uint64_t parts_of(const Node& node) {
  if (node.kind == LayerKind::conv1d) return fields_of<Conv1dFields>(node).groups;
  if (node.kind == LayerKind::conv2d) return fields_of<Conv2dFields>(node).groups;
  return resets_before(node) ? 3 : 1;
}

// How often a matrix, or a factor that its parts share, is applied to make a frame.
uint64_t uses_of(const Node& node) {
  if (node.kind == LayerKind::conv2d) return node.signal.bands * parts_of(node);
  return resets_before(node) ? 2 : 1;
}

// The frames that the layer holds or looks ahead, at most.
uint64_t window_of(const Node& node) {
  switch (node.kind) {
    case LayerKind::conv1d: {
      const auto of = fields_of<Conv1dFields>(node);
      return uint64_t{of.kernel} * of.dilation + of.stride + of.before + of.after;
    }
    case LayerKind::conv2d: {
      const auto of = fields_of<Conv2dFields>(node);
      return uint64_t{of.kernel_time} * of.dilation_time + of.stride_time + of.before + of.after;
    }
    case LayerKind::pool: {
      const auto of = fields_of<PoolFields>(node);
      return uint64_t{2} + of.kernel_time + of.stride_time + of.before + of.after;
    }
    case LayerKind::context_window: {
      const auto [left, right] = fields_of<ContextWindowFields>(node);
      return 2 + 2 * (uint64_t{left} + right);
    }
    case LayerKind::frame_stacking: {
      const auto [count, stride] = fields_of<FrameStackingFields>(node);
      return 2 + 2 * (uint64_t{count} + stride);
    }
    case LayerKind::subsample:
      return uint64_t{1} + fields_of<SubsampleFields>(node).factor;
    default:
      return 2;
  }
}

void add(Cost& cost, const Node& node, const Signal& input) {
  const uint64_t window = window_of(node);
  cost.span += window * input.stride;
  cost.waiting += window * input.size() + node.signal.size();
  cost.products += window * input.size() + node.signal.size();
  for (const Tensor& tensor : node.tensors) {
    if (!tensor || tensor.kind == TensorKind::vector) continue;
    const uint64_t weights = packed(tensor, parts_of(node));
    cost.weights += weights;
    cost.products += weights * uses_of(node);
  }
}

}  // namespace

Cost cost_of(const File& file) {
  Cost cost;
  std::vector<Signal> signals{{file.input_size, 0, 1}};
  for (const Node& node : file.nodes) {
    for (uint32_t from : node.inputs) add(cost, node, signals[from]);
    signals.push_back(node.signal);
  }
  if (file.speech) {
    const FeatureConfig& features = file.speech->features;
    cost.bins = uint64_t{std::bit_ceil(features.window())} * features.bands;
    cost.samples = features.window() + features.hop();
  }
  // A layer may have to wait for each of its inputs as long as the whole model looks ahead.
  cost.waiting += cost.span * signals.size();
  return cost;
}

}  // namespace tinyvox::fuzz
