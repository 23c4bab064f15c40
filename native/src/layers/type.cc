#include "layers/type.h"

#include <algorithm>

namespace tinyvox {
namespace {

using namespace layer_types;

// In the order of LayerKind.
constexpr const LayerType* types[] = {
    &linear,
    &recurrent,
    &conv1d,
    &conv2d,
    &batch_norm,
    &layer_norm,
    &activation,
    &context_window,
    &frame_stacking,
    &subsample,
    &unflatten,
    &flatten,
    &add,
    &concat,
    &log_softmax,
    &multiply,
    &reduce,
    &softmax,
    &slice,
    &pool,
    &take,
    &frame_unstacking,
    &spread,
    &embedding,
    &elementwise_recurrence,
};
static_assert(std::size(types) == layer_kinds);

}  // namespace

const LayerType& type_of(LayerKind kind) { return *types[static_cast<size_t>(kind)]; }

uint32_t kinds_in(uint32_t version) {
  const auto knows = [&](const LayerType* type) { return type->since <= version; };
  return static_cast<uint32_t>(std::count_if(std::begin(types), std::end(types), knows));
}

uint64_t memory(const Node& node, const Signal& input) {
  const auto held = type_of(node.kind).held;
  return (held ? held(node) * input.size() : 0) + node.signal.size();
}

}  // namespace tinyvox
