#include "rans.h"

#include <algorithm>
#include <array>
#include <memory>

#include "bytes.h"
#include "trellis.h"

namespace tinyvox {
namespace {

constexpr uint32_t probability_bits = 12;
constexpr uint32_t total = 1u << probability_bits;
constexpr uint32_t low = 1u << 16;  // a state is at least this between two codes
constexpr size_t lanes = 8;

using Frequencies = std::array<uint32_t, 256>;
using States = std::array<uint32_t, lanes>;

using Counts = std::array<uint64_t, 256>;

// The model of each code, in order.
std::vector<uint16_t> models_of(std::span<const uint8_t> codes, const CodeShape& shape) {
  std::vector<uint16_t> models(codes.size());
  std::vector<uint8_t> states(shape.columns, 0);
  const Trellis trellis(shape.entries, shape.trellis.value_or(0));
  for (size_t row = 0, i = 0; row < shape.rows; ++row) {
    const uint32_t group = shape.group.empty() ? 0 : shape.group[row];
    for (size_t column = 0; column < shape.columns; ++column, ++i) {
      models[i] = static_cast<uint16_t>(group);
      if (!shape.trellis) continue;
      uint8_t& state = states[column];
      models[i] = static_cast<uint16_t>(2 * group + quantizer_of(state));
      state = trellis.next(state, codes[i]);
      if (state == Trellis::none)
        fail("code " + std::to_string(codes[i]) + " in row " + std::to_string(row) +
             " does not follow the trellis");
    }
  }
  return models;
}

// Among the symbols for which `may` is true, the one with the greatest counts[s] / (2 f[s] +
// shift), or with `least` the smallest. In integers, so that every machine chooses the same one.
template <bool least, typename May>
size_t choose(const Counts& counts, const Frequencies& f, int shift, May may) {
  size_t best = 256;
  for (size_t s = 0; s < 256; ++s) {
    if (!may(s)) continue;
    if (best < 256) {
      const uint64_t mine = counts[s] * (2 * f[best] + shift);
      const uint64_t other = counts[best] * (2 * f[s] + shift);
      if (least ? mine >= other : mine <= other) continue;
    }
    best = s;
  }
  return best;
}

// Frequencies that sum to `total`, at least 1 for each symbol that occurs; all 0 if none occurs.
// After rounding, the sum is corrected by single steps where they cost least: a step from f to f +
// 1 saves counts[s] * log((f + 1) / f) bits, which is nearly counts[s] / (f + 1/2).
Frequencies normalize(const Counts& counts) {
  Frequencies f{};
  uint64_t codes = 0;
  for (uint64_t each : counts) codes += each;
  if (codes == 0) return f;
  uint32_t sum = 0;
  for (size_t s = 0; s < 256; ++s) {
    if (counts[s]) f[s] = std::max<uint32_t>(1, static_cast<uint32_t>(counts[s] * total / codes));
    sum += f[s];
  }
  for (; sum < total; ++sum)
    ++f[choose<false>(counts, f, 1, [&](size_t s) { return counts[s] > 0; })];
  for (; sum > total; --sum) --f[choose<true>(counts, f, -1, [&](size_t s) { return f[s] > 1; })];
  return f;
}

void put_varint(std::vector<uint8_t>& out, uint32_t value) {
  for (; value > 127; value >>= 7) out.push_back(static_cast<uint8_t>(value | 128));
  out.push_back(static_cast<uint8_t>(value));
}

void put(std::vector<uint8_t>& out, uint32_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) out.push_back(static_cast<uint8_t>(value >> 8 * i));
}

// The frequencies of a model, and the start of each symbol's range.
struct Model {
  Frequencies frequency, start{};

  explicit Model(const Counts& counts) : frequency(normalize(counts)) {
    for (size_t s = 1; s < 256; ++s) start[s] = start[s - 1] + frequency[s - 1];
  }
};

std::vector<Model> build_models(std::span<const uint8_t> codes, std::span<const uint16_t> model_of,
                                uint32_t count) {
  std::vector<Counts> counts(count, Counts{});
  for (size_t i = 0; i < codes.size(); ++i) ++counts[model_of[i]][codes[i]];
  return {counts.begin(), counts.end()};
}

// Encodes from the last code to the first. `words` are in the reverse of the order of reading.
States encode(std::span<const uint8_t> codes, std::span<const uint16_t> model_of,
              const std::vector<Model>& models, size_t columns, std::vector<uint16_t>& words) {
  States states;
  states.fill(low);
  for (size_t i = codes.size(); i-- > 0;) {
    uint32_t& x = states[i % columns % lanes];
    const Model& model = models[model_of[i]];
    const uint32_t s = codes[i], f = model.frequency[s];
    if (x >= static_cast<uint64_t>(f) << (32 - probability_bits)) {
      words.push_back(static_cast<uint16_t>(x));
      x >>= 16;
    }
    x = ((x / f) << probability_bits) + x % f + model.start[s];
  }
  return states;
}

void put_frequencies(std::vector<uint8_t>& out, const Frequencies& f, uint32_t entries) {
  if (std::all_of(f.begin(), f.end(), [](uint32_t each) { return each == 0; }))
    return out.push_back(0);
  out.push_back(1);
  for (uint32_t s = 0; s < entries; ++s) put_varint(out, f[s]);
}

// The result of decoding a slot of the probability range, packed so that one load reads it all:
//
//   31         20 19               8 7        0
//    place in the  frequency less 1   symbol
//    symbol's range
using Slots = std::array<uint32_t, total>;

// Returns whether any code has this model.
bool read_slots(Reader& reader, uint32_t entries, Slots& slots) {
  if (!reader.varint("presence of a model", 0, 1)) return false;
  uint32_t slot = 0;
  for (uint32_t s = 0; s < entries; ++s) {
    const uint32_t frequency = reader.varint("frequency of a code", 0, total - slot);
    for (uint32_t place = 0; place < frequency; ++place)
      slots[slot++] = place << 20 | (frequency - 1) << 8 | s;
  }
  if (slot != total)
    fail("frequencies of codes sum to " + std::to_string(slot) + ", expected " +
         std::to_string(total));
  return true;
}

inline uint8_t step(const Slots& slots, uint32_t& x) {
  const uint32_t slot = slots[x % total];
  x = ((slot >> 8 & (total - 1)) + 1) * (x >> probability_bits) + (slot >> 20);
  return static_cast<uint8_t>(slot);
}

// Decodes row after row. `choose(column)` gives the slots of the model for the next code, and
// `tell(column, code)` receives the code.
class Decoder {
 public:
  Decoder(const States& states, std::span<const uint8_t> words)
      : states_(states), next_(words.data()), end_(words.data() + words.size()) {}

  template <typename Choose, typename Tell>
  void row(std::span<uint8_t> codes, Choose choose, Tell tell) {
    size_t i = rounds(codes, choose, tell);
    for (; i < codes.size(); ++i) {
      uint32_t& x = states_[i % lanes];
      codes[i] = step(choose(i), x);
      tell(i, codes[i]);
      if (x >= low) continue;
      if (end_ - next_ < 2) fail("the coded weights are truncated");
      x = x << 16 | load_u16(next_);
      next_ += 2;
    }
  }

  void finish() const {
    const bool over =
        std::all_of(states_.begin(), states_.end(), [](uint32_t x) { return x == low; });
    if (next_ != end_ || !over) fail("the coded weights do not end where they should");
  }

 private:
  // Eight codes read at most eight words. While that many words are left, no bound has to be
  // checked and no branch depends on the data. Returns the number of codes written.
  template <typename Choose, typename Tell>
  size_t rounds(std::span<uint8_t> codes, Choose choose, Tell tell) {
    States x = states_;  // local copies stay in registers
    const uint8_t* next = next_;
    size_t i = 0;
    for (; i + lanes <= codes.size() && static_cast<size_t>(end_ - next) >= 2 * lanes; i += lanes) {
      for (size_t lane = 0; lane < lanes; ++lane) {
        codes[i + lane] = step(choose(i + lane), x[lane]);
        tell(i + lane, codes[i + lane]);
        // Written so that no compiler makes a branch of it: it would be mispredicted half of the
        // time.
        const uint32_t refill = x[lane] < low;
        const uint32_t refilled = x[lane] << 16 | load_u16(next);
        x[lane] ^= (x[lane] ^ refilled) & (0 - refill);
        next += 2 * refill;
      }
    }
    states_ = x;
    next_ = next;
    return i;
  }

  States states_;
  const uint8_t *next_, *end_;
};

// The slots of each model; empty if no code has it.
using AllSlots = std::vector<std::unique_ptr<Slots>>;

const Slots& slots_of(const AllSlots& all, size_t model) {
  if (!all[model]) fail("a code has a model without frequencies");
  return *all[model];
}

void decode_rows(Decoder& decoder, const AllSlots& slots, const CodeShape& shape,
                 std::span<uint8_t> codes) {
  for (size_t row = 0; row < shape.rows; ++row) {
    const Slots& own = slots_of(slots, shape.group.empty() ? 0 : shape.group[row]);
    decoder.row(
        codes.subspan(row * shape.columns, shape.columns),
        [&](size_t) -> const Slots& { return own; }, [](size_t, uint8_t) {});
  }
}

// A code that does not exist in its state leads to state `none`. The end of the row checks for
// that; until then, `none` has the even quantizer.
void decode_trellis(Decoder& decoder, const AllSlots& slots, const CodeShape& shape,
                    std::span<uint8_t> codes) {
  std::vector<uint8_t> states(shape.columns, 0);
  const Trellis trellis(shape.entries, *shape.trellis);
  for (size_t row = 0; row < shape.rows; ++row) {
    const size_t group = shape.group.empty() ? 0 : shape.group[row];
    bool used[2] = {false, false};
    for (uint8_t state : states) used[quantizer_of(state)] = true;
    const Slots* own[2];
    for (size_t quantizer : {0, 1})
      own[quantizer] = &slots_of(slots, 2 * group + (used[quantizer] ? quantizer : !quantizer));
    decoder.row(
        codes.subspan(row * shape.columns, shape.columns),
        [&](size_t column) -> const Slots& { return *own[quantizer_of(states[column])]; },
        [&](size_t column, uint8_t code) { states[column] = trellis.next(states[column], code); });
    if (std::find(states.begin(), states.end(), Trellis::none) != states.end())
      fail("a code does not follow the trellis");
  }
}

}  // namespace

std::vector<uint64_t> count_codes(std::span<const uint8_t> codes, const CodeShape& shape) {
  const std::vector<uint16_t> model_of = models_of(codes, shape);
  std::vector<uint64_t> counts(static_cast<size_t>(shape.models()) * shape.entries);
  for (size_t i = 0; i < codes.size(); ++i) ++counts[model_of[i] * shape.entries + codes[i]];
  return counts;
}

std::vector<uint8_t> rans_encode(std::span<const uint8_t> codes, const CodeShape& shape) {
  const std::vector<uint16_t> model_of = models_of(codes, shape);
  const std::vector<Model> models = build_models(codes, model_of, shape.models());
  std::vector<uint16_t> words;
  const States states = encode(codes, model_of, models, shape.columns, words);
  std::vector<uint8_t> out;
  for (const Model& model : models) put_frequencies(out, model.frequency, shape.entries);
  for (uint32_t x : states) put(out, x, 4);
  for (auto word = words.rbegin(); word != words.rend(); ++word) put(out, *word, 2);
  return out;
}

void rans_decode(std::span<const uint8_t> bytes, const CodeShape& shape, std::span<uint8_t> codes) {
  Reader reader(bytes);
  AllSlots slots(shape.models());
  for (auto& each : slots) {
    auto read = std::make_unique<Slots>();
    if (read_slots(reader, shape.entries, *read)) each = std::move(read);
  }
  States states;
  for (uint32_t& x : states) {
    x = reader.u32();
    if (x < low) fail("a state of the entropy coder is out of its range");
  }
  Decoder decoder(states, reader.take(reader.left()));
  if (!codes.empty()) (shape.trellis ? decode_trellis : decode_rows)(decoder, slots, shape, codes);
  decoder.finish();
}

}  // namespace tinyvox
