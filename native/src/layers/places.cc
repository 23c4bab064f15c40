// Some values of each frame, by their places.
#include <algorithm>

#include "bytes.h"
#include "layers/shapes.h"
#include "layers/type.h"

namespace tinyvox {
namespace {

constexpr Setting slice_settings[] = {{"start", 0, max_dimension}, {"stop", 1, max_dimension}};

// Values in a row.
class Slice : public Layer {
 public:
  Slice(const Node& node, const Signal& input) : Slice(fields_of<SliceFields>(node), input) {}

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work&) const override {
    for (size_t frame = 0; frame < frames; ++frame)
      std::copy_n(inputs[0] + frame * size_ + start_, count_, out + frame * count_);
  }

 private:
  Slice(const SliceFields& fields, const Signal& input)
      : size_(input.size()), start_(fields.start), count_(fields.stop - fields.start) {}

  size_t size_, start_, count_;
};

Signal infer_slice(const Node& node, std::span<const Signal> inputs) {
  const auto [start, stop] = fields_of<SliceFields>(node);
  if (start >= stop || stop > flat(inputs[0]))
    refuse({"takes values ", start, " to ", stop, " of ", inputs[0].channels});
  return make_signal(stop - start, 0, inputs[0].stride);
}

constexpr Setting take_settings[] = {{"axis", 0, 1}};

bool takes_bands(const Node& node) { return fields_of<TakeFields>(node).axis == TakeAxis::bands; }

// Values by their places, of all channels, or of the bands of each.
class Take : public Layer {
 public:
  Take(const Node& node, const Signal& input)
      : places_(places_of(node).begin(), places_of(node).end()),
        outer_(takes_bands(node) ? input.channels : 1),
        inner_(takes_bands(node) ? 1 : std::max(1u, input.bands)),
        size_(takes_bands(node) ? input.bands : input.channels) {}

  size_t bytes() const override { return places_.size() * sizeof(uint32_t); }

  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work&) const override {
    const float* x = inputs[0];
    for (size_t i = 0; i < frames * outer_; ++i, x += size_ * inner_)
      for (uint32_t place : places_)
        out = place ? std::copy_n(x + (place - 1) * inner_, inner_, out)
                    : std::fill_n(out, inner_, 0.0f);
  }

 private:
  std::vector<uint32_t> places_;  // 0 is a zero
  size_t outer_, inner_, size_;
};

Signal infer_take(const Node& node, std::span<const Signal> inputs) {
  const Signal& input = inputs[0];
  const bool bands = takes_bands(node);
  const uint32_t size = bands ? input.bands : input.channels;
  if (bands && !input.bands) fail("takes bands of flat frames; add an Unflatten");
  for (uint32_t place : places_of(node))
    if (place > size) refuse({"takes value ", place - 1, " of ", size});
  const uint64_t count = places_of(node).size();
  return bands ? make_signal(input.channels, count, input.stride)
               : make_signal(count, input.bands, input.stride);
}

}  // namespace

constexpr LayerType layer_types::slice{.since = varying_version,
                                       .record = {slice_settings},
                                       .infer = infer_slice,
                                       .make = make<Slice>};
static_assert(layer_types::slice.record.is<SliceFields>());

constexpr LayerType layer_types::take{.since = signals_version,
                                      .record = {.settings = take_settings, .places = true},
                                      .infer = infer_take,
                                      .make = make<Take>};
static_assert(layer_types::take.record.is<TakeFields>());

}  // namespace tinyvox
