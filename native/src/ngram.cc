#include "ngram.h"

#include <algorithm>

#include "mapped_file.h"
#include "ngram_file.h"

namespace tinyvox {

struct NgramModel::Parts {
  explicit Parts(const char* path)
      : mapped(std::make_unique<MappedFile>(path, tvlm_file)),
        file(parse_ngrams(mapped->bytes())) {}
  explicit Parts(std::span<const uint8_t> bytes) : file(parse_ngrams(bytes)) {}

  std::unique_ptr<const MappedFile> mapped;
  NgramFile file;
};

NgramModel::NgramModel(const char* path) : parts_(std::make_unique<const Parts>(path)) {}
NgramModel::NgramModel(std::span<const uint8_t> bytes)
    : parts_(std::make_unique<const Parts>(bytes)) {}
NgramModel::~NgramModel() = default;

uint32_t NgramModel::size() const { return parts_->file.words.size(); }
uint32_t NgramModel::order() const { return static_cast<uint32_t>(parts_->file.levels.size()); }
std::optional<NgramModel::Weights> NgramModel::weights() const { return parts_->file.weights; }
std::string NgramModel::word(uint32_t id) const { return parts_->file.words.at(id); }
std::vector<std::string> NgramModel::words() const { return parts_->file.words.all(); }

uint32_t NgramModel::id(std::string_view word) const {
  return parts_->file.words.find(word).value_or(unknown);
}

NgramModel::State NgramModel::begin(bool after_sentence_start) const {
  State state;
  if (after_sentence_start) score({}, sentence_start, state);
  return state;
}

bool NgramModel::holds(const State& state) const {
  if (state.length >= order()) return false;
  for (uint32_t i = 0; i < max_order - 1; ++i) {
    const uint32_t contexts = i < state.length ? parts_->file.levels[i].contexts : 1;
    if (state.contexts[i] >= contexts) return false;
  }
  return true;
}

namespace {

// The state grows by an entry that may continue, if all shorter ones do.
void add_context(const NgramLevel& level, uint64_t entry, uint32_t length,
                 NgramModel::State& state) {
  if (!level.contexts || state.length != length) return;
  if (const auto context = level.continued.rank(entry)) state.contexts[state.length++] = *context;
}

}  // namespace

// Contexts of one word, of two, ... find the same word among their children, each by its place
// among those of the context before, until one does not have it: then no longer one does.
float NgramModel::score(const State& in, uint32_t word, State& out) const {
  const std::vector<NgramLevel>& levels = parts_->file.levels;
  State after;
  float log10 = levels[0].log10.at(word);
  add_context(levels[0], word, 0, after);
  uint64_t place = word;
  uint32_t found = 0;
  for (; found < in.length; ++found) {
    const NgramLevel& level = levels[found + 1];
    const auto [begin, last] = level.ends.range(in.contexts[found]);
    const uint64_t end = std::min(last, level.entries);
    if (begin >= end) break;
    const auto entry = level.words.find(begin, end, level.words.before(begin) + place);
    if (!entry) break;
    log10 = level.log10.at(*entry);
    add_context(level, *entry, found + 1, after);
    place = *entry - begin;
  }
  for (uint32_t i = found; i < in.length; ++i) log10 += levels[i].backoff.at(in.contexts[i]);
  out = after;
  return log10;
}

}  // namespace tinyvox
