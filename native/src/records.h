// Reads and checks the records in a file's sections: tensors, nodes, the speech card. Only whether
// a layer fits its inputs is checked elsewhere, in shapes.h.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "budget.h"
#include "bytes.h"
#include "file.h"

namespace tinyvox {

inline constexpr uint32_t max_name = 255;            // bytes of a name or a token
inline constexpr uint32_t max_dimension = 1u << 20;  // rows or columns
inline constexpr uint32_t max_span = 4096;           // kernels, strides, paddings, contexts
inline constexpr uint32_t max_inputs = 64;           // of one node
inline constexpr uint32_t max_tokens = 1u << 16;
inline constexpr uint32_t max_depth = 4;             // of products
inline constexpr uint64_t max_matrix = 1ull << 28;   // weights of one matrix
inline constexpr uint64_t max_weights = 1ull << 29;  // weights of one file

// The first versions with products that share a factor, with projected LSTMs, and with repeated
// layers, products of signals, reductions over time, softmax, most activations and a noise floor;
// with slices, more activations, and cells with other functions and with peepholes; and with
// pooling, values by their places, frames taken apart, one frame for all, more reductions, softmax
// over time, reciprocals, norms of groups and by the root of the mean square, token ids,
// cells that normalize, and inputs of matrices in 16 bits.
inline constexpr uint32_t sharing_version = 3, projecting_version = 4, gating_version = 5,
                          varying_version = 6, signals_version = 7;
inline constexpr uint32_t newest_version = signals_version;
// Kinds of layers before gating_version, before varying_version, and before signals_version.
inline constexpr uint32_t oldest_kinds = 15, gating_kinds = 18, varying_kinds = 19;
inline constexpr uint32_t repeat_kind = 255;  // the record of a repeated layer
inline constexpr uint32_t tied_kind = 254;    // of a linear layer with the weight of an embedding

// Reads the nodes of a file of this version, one by one. `earlier` are those read so far.
class NodeReader {
 public:
  NodeReader(Reader& reader, uint32_t version, const std::vector<Node>& earlier, Budget& budget)
      : reader_(reader), version_(version), earlier_(earlier), budget_(budget) {}

  // Reads the next node. `signals` are its possible inputs: the model's input, then the output of
  // every earlier node. An error names the layer.
  Node read(std::span<const Signal> signals);

 private:
  void read_body(Node& node, std::span<const Signal> signals);
  void read_places(Node& node);
  void read_repeat(Node& node, std::span<const Signal> signals);
  void read_tied(Node& node, std::span<const Signal> signals);
  uint32_t read_input(std::span<const Signal> signals);
  Tensor read_tensor(uint32_t depth);
  void read_product(Tensor& tensor, uint32_t depth);
  void read_shared(Tensor& tensor, uint32_t depth);
  std::unique_ptr<Tensor> read_factor(uint32_t depth);
  void read_vector(Tensor& tensor, uint8_t flags);
  void read_leaf(Tensor& tensor, uint8_t flags);
  std::vector<float> read_floats(uint64_t count, uint8_t flags);
  uint64_t spend(const Tensor& tensor);
  void spend(uint64_t weights);

  Reader& reader_;
  uint32_t version_;
  const std::vector<Node>& earlier_;
  Budget& budget_;
  std::vector<std::shared_ptr<Tensor>> factors_;  // the right factors of products so far
  uint64_t weights_left_ = max_weights;
};

// Reads the speech card of a file of this version.
Speech read_speech(Reader& reader, uint32_t version);

}  // namespace tinyvox
