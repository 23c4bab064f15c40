// All that is known of each kind of layer: its record in a file, the shape that it gives, what it
// holds, how it is made. One file of this folder defines the types of a family.
#pragma once

#include <memory>
#include <span>

#include "format.h"
#include "layers/fields.h"
#include "layers/layer.h"

namespace tinyvox {

// A number of a record, which is one of `ints`.
struct Setting {
  // The most before these versions, where it was less; 0: as after.
  struct Earlier {
    uint8_t gating = 0, varying = 0, signals = 0;
  };
  const char* name;
  uint32_t least, most;
  uint8_t since = 0;  // version; before it, the least value
  Earlier most_before = {};

  uint32_t most_in(uint32_t version) const {
    if (version < gating_version && most_before.gating) return most_before.gating;
    if (version < varying_version && most_before.varying) return most_before.varying;
    return version < signals_version && most_before.signals ? most_before.signals : most;
  }
};

// The place of a tensor in a record.
struct Slot {
  const char* name;
  bool is_vector, optional;
  uint8_t since = 0;  // version
};
inline constexpr Slot weight_and_bias[] = {{"weight", false, false}, {"bias", true, true}};

// The fields of a layer's record.
struct Record {
  std::span<const Setting> settings = {};
  std::span<const Slot> tensors = {};
  uint8_t floats = 0;
  uint8_t floats_since = 0;  // version; before it, the usual eps
  uint8_t inputs = 1;        // if the record does not say how many
  uint8_t most_inputs = 1;   // if above one, at least two
  bool places = false;       // whether a list of places follows the settings

  // Whether these structs name what the record has.
  template <typename Fields, typename Tensors>
  constexpr bool is() const {
    return is<Fields>() && tensors.size() % tensor_count<Tensors> == 0;
  }
  template <typename Fields>
  constexpr bool is() const {
    return settings.size() + floats == field_count<Fields>;
  }
};

struct LayerType {
  uint8_t since = 0;  // version
  Record record = {};

  // The output for these inputs. All fields of the node but `signal` are set, and its tensors of
  // the right kinds. Raises FormatError if node and inputs do not fit: the rules of `Layer.infer`
  // in src/tinyvox/model/layers, and limits.
  Signal (*infer)(const Node& node, std::span<const Signal> inputs);

  // Makes the layer. `inputs` are the signals that it reads; a model has one `packer`.
  std::unique_ptr<Layer> (*make)(const Node& node, std::span<const Signal> inputs, Packer& packer);

  // The same, of a layer that keeps its outputs within limits; null: it cannot.
  std::unique_ptr<Layer> (*make_within)(const Node& node, std::span<const Signal> inputs,
                                        Packer& packer, const Limits& limits) = nullptr;

  // The limits that an activation is; empty if it is more than limits, null if it never is.
  std::optional<Limits> (*limits)(const Node& node) = nullptr;

  // The frames that the layer holds; null: none.
  uint64_t (*held)(const Node& node) = nullptr;

  // Raises FormatError for what `infer` allows, but not in a file of this version; null: nothing.
  void (*check)(const Node& node, uint32_t version) = nullptr;
};

namespace layer_types {
extern const LayerType linear, recurrent, conv1d, conv2d, batch_norm, layer_norm, activation,
    context_window, frame_stacking, subsample, unflatten, flatten, add, concat, log_softmax,
    multiply, reduce, softmax, slice, pool, take, frame_unstacking, spread, embedding,
    elementwise_recurrence;
}  // namespace layer_types

const LayerType& type_of(LayerKind kind);

// How many kinds of layers a version knows: the first ones of LayerKind.
uint32_t kinds_in(uint32_t version);

inline Signal infer(const Node& node, std::span<const Signal> inputs) {
  return type_of(node.kind).infer(node, inputs);
}

// Only a layer that has `make_within` may get limits.
inline std::unique_ptr<Layer> make_layer(const Node& node, std::span<const Signal> inputs,
                                         Packer& packer, const std::optional<Limits>& limits = {}) {
  const LayerType& type = type_of(node.kind);
  return limits ? type.make_within(node, inputs, packer, *limits) : type.make(node, inputs, packer);
}

// How many values the node keeps between frames, with its own output.
uint64_t memory(const Node& node, const Signal& input);

// The `make` of a layer whose constructor takes the node, its only input and the packer, or some of
// them in this order.
template <typename Made>
std::unique_ptr<Layer> make(const Node& node, std::span<const Signal> inputs, Packer& packer) {
  const Signal& input = inputs[0];
  if constexpr (std::is_constructible_v<Made, const Node&, const Signal&, Packer&>)
    return std::make_unique<Made>(node, input, packer);
  else if constexpr (std::is_constructible_v<Made, const Node&, const Signal&>)
    return std::make_unique<Made>(node, input);
  else if constexpr (std::is_constructible_v<Made, const Node&, Packer&>)
    return std::make_unique<Made>(node, packer);
  else if constexpr (std::is_constructible_v<Made, const Node&>)
    return std::make_unique<Made>(node);
  else
    return std::make_unique<Made>(input);
}

}  // namespace tinyvox
