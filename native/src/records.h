// Reads and checks the records of a file's layers and their tensors. What the record of each kind
// of layer holds is in layers/type.h, as is whether a layer fits its inputs.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "budget.h"
#include "bytes.h"
#include "file.h"
#include "format.h"
#include "layers/type.h"

namespace tinyvox {

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
  std::vector<Signal> read_inputs(Node& node, const Record& record,
                                  std::span<const Signal> signals);
  void read_fields(Node& node, const Record& record);
  void read_tensors(Node& node, const Record& record);
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

}  // namespace tinyvox
