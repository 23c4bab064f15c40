#include "layers/shapes.h"

#include <algorithm>

#include "bytes.h"
#include "format.h"

namespace tinyvox {

void expect(const std::string& what, uint64_t found, uint64_t expected) {
  if (found != expected)
    fail(what + " is " + std::to_string(found) + ", expected " + std::to_string(expected));
}

std::string shape(uint64_t rows, uint64_t columns) {
  return std::to_string(rows) + " x " + std::to_string(columns);
}

void expect_shape(const char* what, const Tensor& matrix, uint64_t rows, uint64_t columns) {
  if (matrix.rows != rows || matrix.columns != columns)
    fail(std::string(what) + " is " + shape(matrix.rows, matrix.columns) + ", expected " +
         shape(rows, columns));
}

void expect_length(const char* what, const Tensor& vector, uint64_t length) {
  if (vector) expect(std::string(what) + " length", vector.rows, length);
}

uint64_t flat(const Signal& input) {
  if (input.bands)
    fail("takes flat frames, found " + shape(input.channels, input.bands) + "; add a Flatten");
  return input.channels;
}

Signal make_signal(uint64_t channels, uint64_t bands, uint64_t stride) {
  // Check each factor first, so that the product of two of them fits 64 bits.
  const bool fits = channels <= max_signal && bands <= max_signal &&
                    channels * std::max<uint64_t>(1, bands) <= max_signal;
  if (!fits) fail("puts out more than 2^20 values a frame");
  if (stride > max_signal) fail("needs more than 2^20 input frames a frame");
  return {static_cast<uint32_t>(channels), static_cast<uint32_t>(bands),
          static_cast<uint32_t>(stride)};
}

uint64_t stride_of(const Signal& input, uint32_t factor) {
  return static_cast<uint64_t>(input.stride) * factor;
}

uint64_t reach_of(uint32_t kernel, uint32_t dilation) {
  return static_cast<uint64_t>(kernel - 1) * dilation + 1;
}

uint64_t bands_after(uint64_t bands, uint64_t reach, uint32_t stride) {
  if (bands < reach)
    fail("a kernel of " + std::to_string(reach) + " bands does not fit " + std::to_string(bands));
  return (bands - reach) / stride + 1;
}

void check_eps(float eps) {
  if (eps < 0) fail("eps is below 0");
}

void check_rates(std::span<const Signal> inputs) {
  for (const Signal& input : inputs)
    expect("input frames to a frame", input.stride, inputs[0].stride);
}

Signal infer_flat(const Node&, std::span<const Signal> inputs) {
  return make_signal(flat(inputs[0]), 0, inputs[0].stride);
}

}  // namespace tinyvox
