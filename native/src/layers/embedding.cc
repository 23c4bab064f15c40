// Tables of embeddings. Their codes stay as they are: a frame reads one row, not the whole matrix.
#include <algorithm>

#include "bytes.h"
#include "layers/shapes.h"
#include "layers/type.h"

namespace tinyvox {
namespace {

constexpr Slot slots[] = {{"weight", false, false}};

// The widest row of a matrix and of its factors.
uint32_t widest(const Tensor& matrix) {
  if (!matrix.left) return matrix.columns;
  return std::max(widest(*matrix.left), widest(*matrix.right));
}

size_t products_of(const Tensor& matrix, bool one_row) {
  if (matrix.left) return products_of(*matrix.left, one_row) + products_of(*matrix.right, false);
  return one_row ? matrix.columns : static_cast<size_t>(matrix.rows) * matrix.columns;
}

// The bytes of a leaf as it is in memory, by its shape.
size_t leaf_bytes(const Tensor& leaf) {
  const size_t weights = static_cast<size_t>(leaf.rows) * leaf.columns;
  if (leaf.kind == TensorKind::dense) return weights * sizeof(float);
  return weights + leaf.group.size() + leaf.zero.size() +
         (leaf.levels.size() + leaf.scale.size()) * sizeof(float);
}

size_t bytes_of(const Tensor& matrix) {
  return matrix.left ? bytes_of(*matrix.left) + bytes_of(*matrix.right) : leaf_bytes(matrix);
}

class Embedding : public Layer {
 public:
  Embedding(const Node& node, Packer& packer)
      : Embedding(tensors_of<OneWeight>(node).weight, packer.memory()) {}

  size_t scratch_size() const override { return 3 * widest_; }
  size_t bytes() const override { return bytes_; }
  size_t products() const override { return products_; }
  size_t ids() const override { return ids_; }

  // A stream takes no other ids than those of the table. What a layer before it gives is clamped.
  void run(std::span<const float* const> inputs, size_t frames, float* out, float*,
           Work& work) const override {
    const float last = static_cast<float>(ids_ - 1);
    for (size_t frame = 0; frame < frames; ++frame) {
      const float id = inputs[0][frame];
      const float known = id > 0 ? std::min(id, last) : 0;
      look_up(weight_, static_cast<uint32_t>(known), out + frame * size_, work.scratch.data());
    }
  }

 private:
  Embedding(const Tensor& weight, Memory memory)
      : ids_(weight.rows),
        size_(weight.columns),
        widest_(widest(weight)),
        bytes_(bytes_of(weight)),
        products_(products_of(weight, true)) {
    if (memory == Memory::taken) weight_ = weight.copy();
  }

  // A row of a matrix. `between` has room for three rows: one between two factors, a sum, and a row
  // of a leaf.
  void look_up(const Tensor& matrix, uint32_t row, float* to, float* between) const {
    if (!matrix.left) return matrix.weights_of(row, to);
    look_up(*matrix.left, row, between, between);
    multiply(between, *matrix.right, to, between);
  }

  // y = x T; both may be the first row of `between`.
  void multiply(const float* x, const Tensor& matrix, float* y, float* between) const {
    if (matrix.left) {
      multiply(x, *matrix.left, between, between);
      return multiply(between, *matrix.right, y, between);
    }
    float *sum = between + widest_, *weights = sum + widest_;
    std::fill_n(sum, matrix.columns, 0.0f);
    for (uint32_t row = 0; row < matrix.rows; ++row) {
      matrix.weights_of(row, weights);
      for (uint32_t i = 0; i < matrix.columns; ++i) sum[i] += x[row] * weights[i];
    }
    std::copy_n(sum, matrix.columns, y);
  }

  size_t ids_, size_, widest_, bytes_, products_;
  Tensor weight_;
};

Signal infer_embedding(const Node& node, std::span<const Signal> inputs) {
  expect("values in a frame of token ids", flat(inputs[0]), 1);
  return make_signal(tensors_of<OneWeight>(node).weight.columns, 0, inputs[0].stride);
}

void check_input(const Node& node, uint32_t) {
  if (node.inputs[0] != 0) fail("reads another layer, expected the input: token ids");
}

}  // namespace

constexpr LayerType layer_types::embedding{.since = signals_version,
                                           .record = {.tensors = slots},
                                           .infer = infer_embedding,
                                           .make = make<Embedding>,
                                           .check = check_input};

}  // namespace tinyvox
