// What the rules of several layers have in common: each raises FormatError, or gives a shape.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>

#include "file.h"

namespace tinyvox {

// A piece of a message: a text or a number.
struct Part {
  const char* text = nullptr;
  uint64_t whole = 0;
  std::optional<float> real;

  Part(const char* text) : text(text) {}
  Part(float number) : real(number) {}
  template <std::unsigned_integral Number>
  Part(Number number) : whole(number) {}
};

// Raises FormatError with these parts in a row. Its callers are smaller than if they put the
// message together.
[[noreturn]] void refuse(std::initializer_list<Part> parts);

void expect(const char* what, uint64_t found, uint64_t expected);
void expect_shape(const char* what, const Tensor& matrix, uint64_t rows, uint64_t columns);
// If there is the vector.
void expect_length(const char* what, const Tensor& vector, uint64_t length);

// The size of a frame that must be flat.
uint64_t flat(const Signal& input);

// A signal within the limits of the format.
Signal make_signal(uint64_t channels, uint64_t bands, uint64_t stride);

uint64_t stride_of(const Signal& input, uint32_t factor);

// Frames or bands from the first to the last that a kernel reads.
uint64_t reach_of(uint32_t kernel, uint32_t dilation);

// Bands of which those around are padding, for a kernel that moves over them.
uint64_t bands_after(uint64_t bands, uint64_t reach, uint32_t stride);

void check_eps(float eps);

// That the signals have as many frames.
void check_rates(std::span<const Signal> inputs);

// The rules of a layer of flat frames that it does not change.
Signal infer_flat(const Node& node, std::span<const Signal> inputs);

}  // namespace tinyvox
