// Makes and reshapes tensors in memory, so that a layer fits whatever its input became.
#pragma once

#include <functional>
#include <memory>

#include "file.h"
#include "random.h"

namespace tinyvox::fuzz {

Tensor make_vector(uint32_t length, Random& random);

// A matrix of a random kind: dense, coded with any codebook, or a product.
Tensor make_matrix(uint32_t rows, uint32_t columns, Random& random);

// What is there stays at its place as far as possible. A right factor that does not fit is copied
// first, for others may share it.
void resize_vector(Tensor& vector, uint32_t length, Random& random);
void resize_matrix(Tensor& matrix, uint32_t rows, uint32_t columns, Random& random);

Tensor copy(const Tensor& tensor);

// Calls `visit` with the tensor, or with each leaf of a product.
void for_each_leaf(Tensor& tensor, const std::function<void(Tensor&)>& visit);

// Replaces codes that a trellis does not have in their state by the nearest one that it has.
void follow_trellis(Tensor& tensor);

}  // namespace tinyvox::fuzz
