#include "layers/shapes.h"

#include <algorithm>
#include <string>

#include "bytes.h"
#include "format.h"

namespace tinyvox {

void refuse(std::initializer_list<Part> parts) {
  std::string message;
  for (const Part& part : parts)
    message += part.text   ? part.text
               : part.real ? std::to_string(*part.real)
                           : std::to_string(part.whole);
  fail(message);
}

void expect(const char* what, uint64_t found, uint64_t expected) {
  if (found != expected) refuse({what, " is ", found, ", expected ", expected});
}

void expect_shape(const char* what, const Tensor& matrix, uint64_t rows, uint64_t columns) {
  if (matrix.rows != rows || matrix.columns != columns)
    refuse({what, " is ", matrix.rows, " x ", matrix.columns, ", expected ", rows, " x ", columns});
}

void expect_length(const char* what, const Tensor& vector, uint64_t length) {
  if (vector && vector.rows != length)
    refuse({what, " length is ", vector.rows, ", expected ", length});
}

uint64_t flat(const Signal& input) {
  if (input.bands)
    refuse({"takes flat frames, found ", input.channels, " x ", input.bands, "; add a Flatten"});
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
  if (bands < reach) refuse({"a kernel of ", reach, " bands does not fit ", bands});
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
