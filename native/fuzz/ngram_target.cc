// For any bytes: either they are refused with one line, or a language model answers all queries
// with numbers, inside of its bytes, and its words are found.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "bytes.h"
#include "ngram.h"
#include "ngram_file.h"
#include "target.h"

namespace tinyvox::fuzz {
namespace {

constexpr uint32_t most_queries = 400;

void expect(bool right, const char* what) {
  if (!right) fault(what);
}

// Some bits, which leave more files readable than bytes that come and go.
void flip_bits(Bytes& bytes, Random& random) {
  for (uint32_t left = random.size(6); left > 0 && !bytes.empty(); --left)
    bytes[random.below(bytes.size())] ^= 1u << random.below(8);
}

void change(std::vector<Section>& parts, const std::vector<Section>& others, Random& random) {
  Section& part = random.pick(parts);
  if (random.one_in(8)) {
    part = random.pick(others);
  } else if (random.one_in(16) && parts.size() > 1) {
    parts.pop_back();
  } else if (random.one_in(3)) {
    mutate_bytes(part.bytes, random);
  } else {
    flip_bits(part.bytes, random);
  }
}

void try_words(const NgramModel& model) {
  const std::vector<std::string> words = model.words();
  expect(words.size() == model.size(), "the number of words");
  for (uint32_t id = 0; id < words.size(); id += 1 + id / 50) {
    expect(model.word(id) == words[id], "a word by its id");
    const uint32_t found = model.id(words[id]);
    expect(words[found] == words[id], "the id of a word");
  }
}

void try_queries(const NgramModel& model, Random& random) {
  NgramModel::State state = model.begin(true);
  for (uint32_t i = 0; i < most_queries; ++i) {
    const uint32_t word = random.below(model.size());
    NgramModel::State after, again = state;
    const float log10 = model.score(state, word, after);
    expect(std::isfinite(log10), "a score that is no number");
    expect(model.score(again, word, again) == log10 && again == after, "a score in place");
    expect(model.holds(after) && after.length < model.order(), "a state of another model");
    state = random.one_in(20) ? model.begin(random.one_in(2)) : after;
  }
}

}  // namespace

Reached try_input(std::span<const uint8_t> bytes) {
  const auto copy = std::make_unique<uint8_t[]>(bytes.size());  // of exactly this size
  std::copy(bytes.begin(), bytes.end(), copy.get());
  try {
    const NgramModel model(std::span<const uint8_t>(copy.get(), bytes.size()));
    Random random(crc32(bytes));
    try_words(model);
    try_queries(model, random);
  } catch (const FormatError& error) {
    const std::string message = error.what();
    expect(!message.empty() && message.size() < 1000, "the length of an error");
    expect(message.find('\n') == std::string::npos, message.c_str());
    return Reached::refused;
  }
  return Reached::ran;
}

Bytes next_input(std::span<const uint8_t> bytes, std::span<const uint8_t> other, size_t most,
                 Random& random) {
  std::vector<Section> parts = sections_of(bytes);
  const std::vector<Section> others = sections_of(other);
  for (uint32_t left = random.size(3); left > 0 && !parts.empty() && !others.empty(); --left)
    change(parts, others, random);
  Bytes result = seal(parts, version_of(bytes), tvlm_file);
  if (random.one_in(16)) mutate_bytes(result, random);
  if (result.size() > most) result.resize(most);
  return result;
}

}  // namespace tinyvox::fuzz
