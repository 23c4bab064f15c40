// Layers that move values and compute nothing: windows of frames, frames taken apart, changes of
// shape.
#include <algorithm>

#include "layers/shapes.h"
#include "layers/type.h"

namespace tinyvox {
namespace {

// Puts the frames of each window into one frame: context windows, stacking, subsampling. With a
// window of one frame it also serves changes of shape, which move no values, and frames apart.
class Gather : public Layer {
 public:
  Gather(const Signal& input, Window window) : size_(input.size()), window_(window) {}

  Window window() const override { return window_; }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work&) const override {
    const size_t taken = window_.reach * size_;
    for (size_t frame = 0; frame < frames; ++frame)
      std::copy_n(inputs[0] + frame * window_.stride * size_, taken, out + frame * taken);
  }

 private:
  size_t size_;
  Window window_;
};

template <Window (*window_of)(const Node&)>
std::unique_ptr<Layer> make_gather(const Node& node, std::span<const Signal> inputs, Packer&) {
  return std::make_unique<Gather>(inputs[0], window_of(node));
}

constexpr Setting context_settings[] = {{"left", 0, max_span}, {"right", 0, max_span}};

Signal infer_context(const Node& node, std::span<const Signal> inputs) {
  const auto [left, right] = fields_of<ContextWindowFields>(node);
  return make_signal(flat(inputs[0]) * (uint64_t{1} + left + right), 0, inputs[0].stride);
}

Window context(const Node& node) {
  const auto [left, right] = fields_of<ContextWindowFields>(node);
  return {left, size_t{1} + left + right, 1, right};
}

constexpr Setting stacking_settings[] = {{"count", 1, max_span}, {"stride", 1, max_span}};

Signal infer_stacking(const Node& node, std::span<const Signal> inputs) {
  const auto [count, stride] = fields_of<FrameStackingFields>(node);
  return make_signal(flat(inputs[0]) * count, 0, stride_of(inputs[0], stride));
}

uint64_t stacked(const Node& node) {
  const auto [count, stride] = fields_of<FrameStackingFields>(node);
  return std::max(count, stride);
}

Window stacking(const Node& node) {
  const auto [count, stride] = fields_of<FrameStackingFields>(node);
  return {0, count, stride};
}

constexpr Setting subsample_settings[] = {{"factor", 1, max_span}};

Signal infer_subsample(const Node& node, std::span<const Signal> inputs) {
  const Signal& input = inputs[0];
  return make_signal(input.channels, input.bands,
                     stride_of(input, fields_of<SubsampleFields>(node).factor));
}

Window subsampling(const Node& node) { return {0, 1, fields_of<SubsampleFields>(node).factor}; }

constexpr Setting unflatten_settings[] = {{"channels", 1, max_dimension}};

Signal infer_unflatten(const Node& node, std::span<const Signal> inputs) {
  const uint64_t channels = fields_of<UnflattenFields>(node).channels;
  expect("input size modulo channels", flat(inputs[0]) % channels, 0);
  return make_signal(channels, flat(inputs[0]) / channels, inputs[0].stride);
}

Signal infer_flatten(const Node&, std::span<const Signal> inputs) {
  return make_signal(inputs[0].size(), 0, inputs[0].stride);
}

Window one_frame(const Node&) { return {}; }

constexpr Setting unstacking_settings[] = {{"count", 1, max_span}};

Signal infer_unstacking(const Node& node, std::span<const Signal> inputs) {
  const Signal& input = inputs[0];
  const uint32_t count = fields_of<FrameUnstackingFields>(node).count;
  expect("input size modulo count", flat(input) % count, 0);
  if (!input.stride || input.stride % count)
    refuse({"makes ", count, " frames of one that stands for ", input.stride, " of the input's"});
  return make_signal(flat(input) / count, 0, input.stride / count);
}

Window apart(const Node& node) {
  Window window;
  window.makes = fields_of<FrameUnstackingFields>(node).count;
  return window;
}

}  // namespace

constexpr LayerType layer_types::context_window{
    .record = {context_settings}, .infer = infer_context, .make = make_gather<context>};
static_assert(layer_types::context_window.record.is<ContextWindowFields>());

constexpr LayerType layer_types::frame_stacking{.record = {stacking_settings},
                                                .infer = infer_stacking,
                                                .make = make_gather<stacking>,
                                                .held = stacked};
static_assert(layer_types::frame_stacking.record.is<FrameStackingFields>());

constexpr LayerType layer_types::subsample{
    .record = {subsample_settings}, .infer = infer_subsample, .make = make_gather<subsampling>};
static_assert(layer_types::subsample.record.is<SubsampleFields>());

constexpr LayerType layer_types::unflatten{
    .record = {unflatten_settings}, .infer = infer_unflatten, .make = make_gather<one_frame>};
static_assert(layer_types::unflatten.record.is<UnflattenFields>());

constexpr LayerType layer_types::flatten{.infer = infer_flatten, .make = make_gather<one_frame>};

constexpr LayerType layer_types::frame_unstacking{.since = signals_version,
                                                  .record = {unstacking_settings},
                                                  .infer = infer_unstacking,
                                                  .make = make_gather<apart>};
static_assert(layer_types::frame_unstacking.record.is<FrameUnstackingFields>());

}  // namespace tinyvox
