#include "rdo.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <vector>

#include "trellis.h"

namespace tinyvox {
namespace {

struct Choice {
  float cost = std::numeric_limits<float>::infinity();
  uint8_t code = 0;
};

// Compares the value of one row with levels of the grid.
class Row {
 public:
  Row(const Rdo& rdo, const float* cost, float weight, float value)
      : rdo_(rdo), cost_(cost), weight_(weight), value_(value) {}

  void consider(Choice& best, int level) const {
    const int code = level + static_cast<int>(rdo_.zero);
    if (code < 0 || code >= static_cast<int>(rdo_.entries)) return;
    const float error = value_ - static_cast<float>(level);
    const float cost = weight_ * error * error + cost_[code];
    if (cost < best.cost) best = {cost, static_cast<uint8_t>(code)};
  }

  // Considers the levels first, first + spacing, ... and their negatives, from the nearest one
  // outwards and inwards, as far as they can be the best.
  void consider_run(Choice& best, int first, int spacing) const {
    for (const int sign : {1, -1}) {
      const int most = static_cast<int>(sign < 0 ? rdo_.zero : rdo_.entries - 1 - rdo_.zero);
      if (most < first) continue;
      const int last = (most - first) / spacing;
      const float place = (static_cast<float>(sign) * value_ - static_cast<float>(first)) /
                          static_cast<float>(spacing);
      const int nearest = place <= 0                         ? 0
                          : place < static_cast<float>(last) ? static_cast<int>(place + 0.5f)
                                                             : last;
      const auto level = [&](int i) { return sign * (first + i * spacing); };
      for (int i = nearest; i >= 0 && may_win(best, level(i)); --i) consider(best, level(i));
      for (int i = nearest + 1; i <= last && may_win(best, level(i)); ++i) consider(best, level(i));
    }
  }

 private:
  // Whether a level would be the best one if it cost no bits.
  bool may_win(const Choice& best, int level) const {
    const float error = value_ - static_cast<float>(level);
    return weight_ * error * error < best.cost;
  }

  const Rdo& rdo_;
  const float* cost_;
  float weight_, value_;
};

size_t group_of(const Rdo& rdo, size_t row) { return rdo.group.empty() ? 0 : rdo.group[row]; }

void choose_alone(const Rdo& rdo, std::span<const float> values, std::span<const float> weights,
                  std::span<uint8_t> codes) {
  for (size_t i = 0; i < values.size(); ++i) {
    const Row row(rdo, &rdo.cost[group_of(rdo, i) * rdo.entries], weights[i], values[i]);
    Choice best{std::numeric_limits<float>::infinity(), static_cast<uint8_t>(rdo.zero)};
    row.consider(best, 0);
    row.consider_run(best, 1, 1);
    codes[i] = best.code;
  }
}

// The best codes of one row for each quantizer and bit. A state depends on nothing else.
struct Subsets {
  Choice of[2][2];

  Subsets(const Rdo& rdo, size_t group, float weight, float value) {
    const Row even(rdo, &rdo.cost[2 * group * rdo.entries], weight, value);
    even.consider(of[0][0], 0);
    even.consider_run(of[0][0], 4, 4);
    even.consider_run(of[0][1], 2, 4);
    const Row odd(rdo, &rdo.cost[(2 * group + 1) * rdo.entries], weight, value);
    odd.consider(of[1][0], 0);
    odd.consider_run(of[1][0], 3, 4);
    odd.consider_run(of[1][1], 1, 4);
  }
};

// The best path to each state: the state before, and the code.
struct Survivor {
  uint8_t from[trellis_states];
  uint8_t code[trellis_states];
};

using Costs = std::array<float, trellis_states>;

Costs advance(const Costs& costs, const Subsets& subsets, Survivor& survivor) {
  Costs next;
  next.fill(std::numeric_limits<float>::infinity());
  for (uint32_t state = 0; state < trellis_states; ++state)
    for (uint32_t bit = 0; bit < 2; ++bit) {
      const Choice& choice = subsets.of[quantizer_of(state)][bit];
      const uint8_t to = next_state(state, bit);
      if (const float cost = costs[state] + choice.cost; cost < next[to]) {
        next[to] = cost;
        survivor.from[to] = static_cast<uint8_t>(state);
        survivor.code[to] = choice.code;
      }
    }
  // Only differences matter; growing sums would lose digits.
  const float least = *std::min_element(next.begin(), next.end());
  for (float& cost : next) cost -= least;
  return next;
}

void choose_path(const Rdo& rdo, std::span<const float> values, std::span<const float> weights,
                 std::span<uint8_t> codes) {
  std::vector<Survivor> survivors(values.size());
  Costs costs;
  costs.fill(std::numeric_limits<float>::infinity());
  costs[0] = 0;
  for (size_t i = 0; i < values.size(); ++i)
    costs = advance(costs, Subsets(rdo, group_of(rdo, i), weights[i], values[i]), survivors[i]);
  size_t state = static_cast<size_t>(std::min_element(costs.begin(), costs.end()) - costs.begin());
  for (size_t i = values.size(); i-- > 0;) {
    codes[i] = survivors[i].code[state];
    state = survivors[i].from[state];
  }
}

}  // namespace

void choose_codes(const Rdo& rdo, std::span<const float> values, std::span<const float> weights,
                  std::span<uint8_t> codes) {
  (rdo.trellis ? choose_path : choose_alone)(rdo, values, weights, codes);
}

}  // namespace tinyvox
