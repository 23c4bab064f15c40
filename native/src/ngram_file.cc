#include "ngram_file.h"

#include <string>

#include "bytes.h"

namespace tinyvox {
namespace {

constexpr uint32_t newest_tvlm = 1;
constexpr uint32_t most_codebook_bits = 24, raw_bits = 32;
constexpr uint32_t most_metadata = 1u << 20;
constexpr float most_magnitude = 65536;  // so that sums are numbers too

void check_numbers(std::span<const uint8_t> floats) {
  constexpr auto most = __builtin_bit_cast(uint32_t, most_magnitude);  // bits rise with magnitudes
  uint32_t wrong = 0;
  for (size_t i = 0; i < floats.size(); i += 4) wrong |= (load_u32(&floats[i]) & 0x7FFFFFFF) > most;
  if (wrong) fail("holds a number that is not within 65536 of 0");
}

Codes read_codes(Reader& reader, uint32_t bits, uint64_t count) {
  Codes result{.bits = bits};
  if (bits != raw_bits) {
    const auto codebook = reader.take(uint64_t{4} << bits);
    check_numbers(codebook);
    result.codebook = codebook.data();
  }
  const auto codes = reader.take((count * bits + 7) / 8);
  if (bits == raw_bits) check_numbers(codes);
  result.codes = codes.data();
  return result;
}

uint32_t read_width(Reader& reader, const char* what) {
  const uint32_t bits = reader.u8();
  if (bits > most_codebook_bits && bits != raw_bits)
    fail(std::string(what) + " have " + std::to_string(bits) + " bits, expected 0 to 24, or 32");
  return bits;
}

BitVector read_bit_vector(Reader& reader, uint64_t bits, uint32_t expected) {
  constexpr uint32_t width = BitVector::record_bits;
  const uint64_t records = (bits + width - 1) / width;
  const auto bytes = reader.take(records * BitVector::record_bytes);
  uint32_t ones = 0;
  for (uint64_t i = 0; i < records; ++i) {
    const uint8_t* record = &bytes[i * BitVector::record_bytes];
    if (load_u32(record) != ones) fail("contexts are not counted right");
    for (uint32_t at = 4; at < BitVector::record_bytes; at += 4)
      ones += count_ones(load_u32(record + at));
  }
  for (uint64_t bit = bits; bit < records * width; ++bit)
    if (bytes[bit / width * BitVector::record_bytes + 4 + bit % width / 8] >> bit % width % 8 & 1)
      fail("something beyond the last n-gram is a context");
  if (ones != expected)
    fail("has " + std::to_string(ones) + " contexts, expected " + std::to_string(expected));
  return {bytes.data()};
}

// `below` is the level of the n-grams that are one word shorter; none for single words.
NgramLevel read_level(std::span<const uint8_t> section, const NgramLevel* below, uint32_t words) {
  Reader reader(section);
  NgramLevel level;
  level.entries = reader.u32();
  level.contexts = reader.u32();
  const uint32_t log10_bits = read_width(reader, "probabilities");
  const uint32_t backoff_bits = read_width(reader, "back-offs");
  if (level.contexts > level.entries) fail("has more contexts than n-grams");
  if (!below && level.entries != words)
    fail("has " + std::to_string(level.entries) + " n-grams, expected one for each of " +
         std::to_string(words) + " words");
  if (below) {
    level.ends = Monotone::read(reader, below->contexts);
    if (level.ends.last() != level.entries) fail("contexts do not have all n-grams");
    level.words = Monotone::read(reader, level.entries);
  }
  level.log10 = read_codes(reader, log10_bits, level.entries);
  level.continued = read_bit_vector(reader, level.contexts ? level.entries : 0, level.contexts);
  level.backoff = read_codes(reader, backoff_bits, level.contexts);
  read_padding(reader);
  return level;
}

template <typename Read>
auto in_section(const std::string& name, Read read) {
  try {
    return read();
  } catch (const FormatError&) {
    fail_within(name);
  }
}

std::string level_tag(size_t n) { return "NGR" + std::to_string(n); }

NgramModel::Weights read_weights(std::span<const uint8_t> section) {
  Reader reader(section);
  const auto floats = reader.take(2 * sizeof(float));
  check_numbers(floats);
  read_padding(reader);
  const auto number = [&](size_t i) { return __builtin_bit_cast(float, load_u32(&floats[4 * i])); };
  if (number(0) < 0) fail("alpha is below 0");
  return {number(0), number(1)};
}

void check_metadata(std::span<const uint8_t> bytes) {
  if (bytes.size() > most_metadata) fail("longer than 2^20 bytes");
  check_utf8("text", bytes);
}

}  // namespace

const FileKind tvlm_file{"tinyvox language model", magic_of('T', 'V', 'L'), 1, newest_tvlm,
                         NgramModel::max_order + 3};

NgramFile parse_ngrams(std::span<const uint8_t> bytes) {
  std::vector<SectionView> sections = read_container(tvlm_file, bytes).sections;
  if (sections[0].tag != "WORD") fail("the first section is not WORD");
  if (sections.back().tag == "META") {
    in_section("metadata", [&] { check_metadata(sections.back().bytes); });
    sections.pop_back();
  }
  std::optional<NgramModel::Weights> weights;
  if (sections.back().tag == "WGHT") {
    weights = in_section("weights", [&] { return read_weights(sections.back().bytes); });
    sections.pop_back();
  }
  NgramFile file{in_section("words", [&] { return WordList(sections[0].bytes); }), {}, weights};
  for (size_t n = 1; n < sections.size(); ++n) {
    if (sections[n].tag != level_tag(n) || n > NgramModel::max_order)
      fail("sections are not WORD, NGR1 to NGR6, WGHT, META in this order");
    const NgramLevel* below = n > 1 ? &file.levels.back() : nullptr;
    file.levels.push_back(in_section(std::to_string(n) + "-grams", [&] {
      return read_level(sections[n].bytes, below, file.words.size());
    }));
  }
  if (file.levels.empty()) fail("has no NGR1 section");
  if (file.levels.back().contexts) fail("the longest n-grams are contexts");
  return file;
}

}  // namespace tinyvox
