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

uint8_t choose_one(const Rdo& rdo, size_t model, float weight, float value) {
  const Row row(rdo, &rdo.cost[model * rdo.entries], weight, value);
  Choice best{std::numeric_limits<float>::infinity(), static_cast<uint8_t>(rdo.zero)};
  row.consider(best, 0);
  row.consider_run(best, 1, 1);
  return best.code;
}

void choose_alone(const Rdo& rdo, std::span<const float> values, std::span<const float> weights,
                  std::span<uint8_t> codes) {
  for (size_t i = 0; i < values.size(); ++i)
    codes[i] = choose_one(rdo, group_of(rdo, i), weights[i], values[i]);
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

std::optional<RdoTable> RdoTable::of(const Rdo& rdo, float weight) {
  const auto fits = [](float cost) { return std::isfinite(cost) && cost >= 0; };
  if (rdo.trellis || !std::isfinite(weight) || weight <= 0 ||
      !std::all_of(rdo.cost.begin(), rdo.cost.end(), fits))
    return std::nullopt;
  RdoTable table(rdo);
  const size_t models = rdo.cost.size() / rdo.entries;
  table.entries_.assign(models * bins, open);
  for (size_t model = 0; model < models; ++model)
    table.fill(rdo.cost.subspan(model * rdo.entries, rdo.entries), weight,
               std::span(table.entries_).subspan(model * bins, bins));
  return table;
}

// A value x costs weight (x - l)^2 + cost at level l. Without weight x^2, which all levels share,
// this is a line in x, which falls more steeply the higher the level is. So the levels that are the
// best ones somewhere are the lower envelope of these lines, which one sweep over the levels finds.
void RdoTable::fill(std::span<const float> cost, float weight, std::span<int16_t> entries) const {
  const auto level = [&](int code) { return static_cast<double>(code) - rdo_.zero; };
  const auto meet = [&](int low, int high) {  // the value from which on the higher level costs less
    const double apart = level(high) - level(low);
    const double more = static_cast<double>(cost[high]) - cost[low];
    return (level(high) + level(low)) / 2 + more / (2 * weight * apart);
  };
  std::vector<int> winners;
  for (int code = 0; code < static_cast<int>(rdo_.entries); ++code) {
    while (winners.size() > 1 &&
           meet(winners.back(), code) <= meet(winners[winners.size() - 2], winners.back()))
      winners.pop_back();
    winners.push_back(code);
  }
  // At a distance d from where two levels meet, their costs differ by 2 weight d or more. A cost in
  // float32 has a relative error of some 1e-7, a place in the table one of 2^-15 of a step.
  const double most = *std::max_element(cost.begin(), cost.end());
  const double doubt = 1e-3 + 1e-5 * (1 + most / weight);
  const auto bin = [](double x) {
    return static_cast<int>(std::clamp((x + reach) * bins_per_step, 0.0, bins * 1.0));
  };
  int first = 0;
  for (size_t i = 0; i < winners.size(); ++i) {
    const double end = i + 1 < winners.size() ? meet(winners[i], winners[i + 1]) : 1e9;
    for (const int last = bin(end - doubt); first < last; ++first)
      entries[first] = static_cast<int16_t>(winners[i]);
    first = std::max(first, std::min(bin(end + doubt) + 1, bins));
  }
}

void RdoTable::choose(std::span<const float> values, std::span<const float> weights,
                      std::span<uint8_t> codes) const {
  // A byte that is stored may be any object's: what the loop reads is held here.
  const int16_t* const entries = entries_.data();
  const uint8_t* const group = rdo_.group.empty() ? nullptr : rdo_.group.data();
  const float* const from = values.data();
  uint8_t* const to = codes.data();
  for (size_t i = 0, count = values.size(); i < count; ++i) {
    const size_t model = group == nullptr ? 0 : group[i];
    const float place = from[i] * bins_per_step + reach * bins_per_step;
    const int16_t entry = place >= 0 && place < bins  // neither holds for NaN
                              ? entries[model * bins + static_cast<size_t>(static_cast<int>(place))]
                              : open;
    to[i] =
        entry != open ? static_cast<uint8_t>(entry) : choose_one(rdo_, model, weights[i], from[i]);
  }
}

void choose_compensated(const Rdo& rdo, const RdoBlock& block) {
  const size_t rows = block.scale.size(), columns = block.weights.size();
  const size_t models = rdo.cost.size() / rdo.entries;
  std::vector<float> steps(rows), weights(rows);
  for (size_t i = 0; i < columns; ++i) {
    const float* const column = block.values.data() + i * rows;
    uint8_t* const codes = block.codes.data() + i * rows;
    float* const errors = block.errors.data() + i * rows;
    for (size_t row = 0; row < rows; ++row)
      steps[row] = block.scale[row] > 0 ? column[row] / block.scale[row] : 0;
    std::fill(weights.begin(), weights.end(), block.weights[i]);
    std::optional<RdoTable> table;
    if (rows >= RdoTable::least_values(models)) table = RdoTable::of(rdo, block.weights[i]);
    if (table)
      table->choose(steps, weights, {codes, rows});
    else
      choose_codes(rdo, steps, weights, {codes, rows});
    const float* const spread = block.spread.data() + i * columns;
    for (size_t row = 0; row < rows; ++row) {
      const float level = static_cast<float>(codes[row]) - static_cast<float>(rdo.zero);
      errors[row] = (column[row] - level * block.scale[row]) / spread[i];
    }
    for (size_t j = i + 1; j < columns; ++j) {
      float* const later = block.values.data() + j * rows;
      for (size_t row = 0; row < rows; ++row) later[row] -= errors[row] * spread[j];
    }
  }
}

}  // namespace tinyvox
