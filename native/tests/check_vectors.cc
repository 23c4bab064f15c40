// The kernels that take vectors: rounding of activations, functions of each value, cells.
#include "kernel_checks.h"

namespace tinyvox {
namespace {

// Values of every magnitude.
Values awkward(size_t size) {
  constexpr float special[] = {0, -0.0f, 88, -88, 200, -200, 1e-20f, 1e-40f, 1e30f, -1e30f};
  Values x = uniforms(size, 30);
  for (size_t i = 0; i < size; i += 5) x[i] = special[i / 5 % std::size(special)];
  return x;
}

// Values half way between two int8 steps.
Values halves(size_t size) {
  Values x(size, 127);
  for (size_t i = 1; i < size; ++i) x[i] = static_cast<float>(i % 253) - 126.5f;
  return x;
}

std::vector<int32_t> quantize(const Kernels& set, const Values& x) {
  const size_t stride = padded(x.size());
  std::vector<int8_t> values(stride, 99);
  float scale;
  int32_t sum;
  set.quantize_i8(x.data(), x.size(), stride, values.data(), &scale, &sum);
  std::vector<int32_t> all(values.begin(), values.end());
  all.push_back(sum);
  all.push_back(__builtin_bit_cast(int32_t, scale));
  return all;
}

void check_quantize(const Kernels& set, size_t size) {
  for (const Values& x :
       {Values(size), uniforms(size, 3), uniforms(size, 1e-39f), awkward(size), halves(size)})
    expect_same({set, "quantize_i8", 1, size, 1}, quantize(set, x), quantize(kernels_scalar, x));
}

void check_elementwise(const Kernels& set, const char* what,
                       void (*Kernels::*function)(float*, size_t), const Values& x,
                       double (*exact)(double)) {
  const Case now{set, what, 1, x.size(), 1};
  Values found = x, expected = x;
  (set.*function)(found.data(), x.size());
  (kernels_scalar.*function)(expected.data(), x.size());
  expect_same(now, found, expected);
  for (size_t i = 0; exact && i < x.size(); ++i) expect_within(now, i, found[i], exact(x[i]), 2e-7);
}

// Several steps of a cell, each from the state after the step before.
template <typename Step>
void check_cell(const Kernels& set, const char* what, size_t hidden, Step step) {
  constexpr size_t count = 5;
  const Values gates = uniforms(count * 9 * hidden, 8);
  const auto run = [&](const Kernels& kernels) {
    Values state(2 * hidden);
    for (size_t i = 0; i < count; ++i) {
      const float* x = gates.data() + i * 9 * hidden;
      step(kernels, x, x + 4 * hidden, state.data());
    }
    return state;
  };
  expect_same({set, what, hidden, hidden, count}, run(set), run(kernels_scalar));
}

}  // namespace

void check_vectors(const Kernels& set, size_t size) {
  check_quantize(set, size);
  const Values x = awkward(size);
  check_elementwise(set, "sigmoid_f32", &Kernels::sigmoid_f32, x,
                    [](double value) { return 1 / (1 + std::exp(-value)); });
  check_elementwise(set, "tanh_f32", &Kernels::tanh_f32, x, std::tanh);
  check_elementwise(set, "log_softmax_f32", &Kernels::log_softmax_f32, x, nullptr);
  check_cell(set, "lstm_f32", size, [&](auto& kernels, auto x, auto h, float* state) {
    kernels.lstm_f32(x, h, size, state + size, state);
  });
  check_cell(set, "gru_f32", size, [&](auto& kernels, auto x, auto h, float* state) {
    kernels.gru_f32(x, h, h + 4 * size, size, state);
  });
  check_cell(set, "rnn_tanh_f32", size, [&](auto& kernels, auto x, auto h, float* state) {
    kernels.rnn_tanh_f32(x, h, size, state);
  });
}

}  // namespace tinyvox
