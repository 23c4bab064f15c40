#include "layers/cell_steps.h"

#include <algorithm>
#include <cmath>

namespace tinyvox {
namespace {

void add(const float* x, size_t size, float* h) {
  for (size_t i = 0; i < size; ++i) h[i] += x[i];
}

void add_products(const float* a, const float* b, size_t size, float* h) {
  for (size_t i = 0; i < size; ++i) h[i] += a[i] * b[i];
}

// Brings values to mean 0 and variance 1.
void standardize(float* x, size_t size, float eps) {
  double sum = 0, squares = 0;
  for (size_t i = 0; i < size; ++i) sum += x[i];
  const double mean = sum / static_cast<double>(size);
  for (size_t i = 0; i < size; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const double inverse = 1.0 / std::sqrt(squares / static_cast<double>(size) + eps);
  for (size_t i = 0; i < size; ++i) x[i] = static_cast<float>((x[i] - mean) * inverse);
}

// z s + (1 - z) n
void mix(const float* update, const float* fresh, size_t hidden, float* state) {
  for (size_t i = 0; i < hidden; ++i) state[i] = fresh[i] + update[i] * (state[i] - fresh[i]);
}

template <typename Function>
void map(float* x, size_t size, Function function) {
  for (size_t i = 0; i < size; ++i) x[i] = function(x[i]);
}

}  // namespace

void CellSteps::gate(float* x, size_t size, const Kernels& kernels) const {
  switch (gate_) {
    case GateFunction::sigmoid:
      return kernels.sigmoid_f32(x, size);
    case GateFunction::hardsigmoid:
      return map(x, size, [](float v) { return std::min(std::max(v + 3.0f, 0.0f), 6.0f) / 6.0f; });
    case GateFunction::hard_sigmoid_keras:
      return map(x, size, [](float v) { return std::min(std::max(0.2f * v + 0.5f, 0.0f), 1.0f); });
  }
}

void CellSteps::bend(float* x, size_t size, const Kernels& kernels) const {
  switch (bend_) {
    case CellActivation::of_kind:
      return kernels.tanh_f32(x, size);
    case CellActivation::relu:
      return map(x, size, [](float v) { return std::max(v, 0.0f); });
    case CellActivation::sigmoid:
      return kernels.sigmoid_f32(x, size);
    case CellActivation::identity:
      return;
  }
}

void CellSteps::normalize(std::span<const float> bias, std::span<const float> norm,
                          float* h) const {
  for (size_t i = 0; i < bias.size(); ++i) h[i] += bias[i];
  standardize(h, norm.size(), eps_);
  for (size_t i = 0; i < norm.size(); ++i) h[i] *= norm[i];
}

void CellSteps::normalize_cell(std::span<const float> norm, size_t hidden, float* cell) const {
  standardize(cell, hidden, eps_);
  for (size_t i = 0; i < hidden; ++i) cell[i] = cell[i] * norm[i] + norm[hidden + i];
}

void CellSteps::lstm(const float* x, float* h, std::span<const float> peepholes,
                     std::span<const float> norm, size_t hidden, float* memory, float* state,
                     const Kernels& kernels) const {
  float *in = h, *forget = in + hidden, *fresh = forget + hidden, *out = fresh + hidden;
  const float* peep = peepholes.data();
  add(x, 4 * hidden, h);
  if (peep) add_products(peep, memory, hidden, in);
  if (peep) add_products(peep + hidden, memory, hidden, forget);
  gate(in, 2 * hidden, kernels);
  bend(fresh, hidden, kernels);
  for (size_t i = 0; i < hidden; ++i) memory[i] = forget[i] * memory[i] + in[i] * fresh[i];
  if (!norm.empty() && carries_norm_) normalize_cell(norm, hidden, memory);
  if (peep) add_products(peep + 2 * hidden, memory, hidden, out);
  gate(out, hidden, kernels);
  std::copy_n(memory, hidden, state);
  if (!norm.empty() && !carries_norm_) normalize_cell(norm, hidden, state);
  bend(state, hidden, kernels);
  for (size_t i = 0; i < hidden; ++i) state[i] *= out[i];
}

void CellSteps::gru(const float* x, float* h, const float* bias_hn, size_t hidden, float* state,
                    const Kernels& kernels) const {
  float *reset = h, *update = reset + hidden, *fresh = update + hidden;
  add(x, 2 * hidden, h);
  gate(h, 2 * hidden, kernels);
  for (size_t i = 0; i < hidden; ++i)
    fresh[i] = x[2 * hidden + i] + reset[i] * (fresh[i] + bias_hn[i]);
  bend(fresh, hidden, kernels);
  mix(update, fresh, hidden, state);
}

void CellSteps::rnn(const float* x, const float* h, size_t hidden, float* state,
                    const Kernels& kernels) const {
  for (size_t i = 0; i < hidden; ++i) state[i] = x[i] + h[i];
  bend(state, hidden, kernels);
}

void CellSteps::li_gru(const float* x, float* h, size_t hidden, float* state,
                       const Kernels& kernels) const {
  add(x, 2 * hidden, h);
  gate(h, hidden, kernels);
  bend(h + hidden, hidden, kernels);
  mix(h, h + hidden, hidden, state);
}

void CellSteps::reset(const float* x, float* h, size_t hidden, const float* state, float* reset,
                      const Kernels& kernels) const {
  add(x, 2 * hidden, h);
  gate(h, 2 * hidden, kernels);
  for (size_t i = 0; i < hidden; ++i) reset[i] = h[i] * state[i];
}

void CellSteps::renew(const float* x, float* h, size_t hidden, float* state,
                      const Kernels& kernels) const {
  float *update = h + hidden, *fresh = update + hidden;
  add(x + 2 * hidden, hidden, fresh);
  bend(fresh, hidden, kernels);
  mix(update, fresh, hidden, state);
}

}  // namespace tinyvox
