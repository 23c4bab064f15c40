#include "word_list.h"

#include <algorithm>
#include <numeric>

namespace tinyvox {
namespace {

constexpr uint32_t specials = WordList::special.size();
constexpr uint32_t most_words = 1u << 24;
constexpr uint32_t block = 16;  // words of which the first is coded by itself

// The groups of words of falling frequency, each in alphabetical order, are four times as large as
// the one before. Calls work(first, end) with the places of each, less the special words, until it
// gives true.
template <typename Work>
void for_each_group(uint32_t words, Work work) {
  for (uint32_t first = 0, size = block; first < words; first += size, size *= 4)
    if (work(first, static_cast<uint32_t>(std::min<uint64_t>(words, uint64_t{first} + size))))
      return;
}

// One hexadecimal digit a code, the lower half of a byte first.
std::vector<uint8_t> read_lengths(Reader& reader, size_t count) {
  std::vector<uint8_t> lengths(count);
  const auto bytes = reader.take((count + 1) / 2);
  for (size_t i = 0; i < count; ++i) lengths[i] = bytes[i / 2] >> i % 2 * 4 & 15;
  return lengths;
}

}  // namespace

PrefixCode::PrefixCode(std::span<const uint8_t> symbols_of, std::span<const uint8_t> lengths) {
  for (uint8_t length : lengths) ++count[length];
  count[0] = 0;
  uint32_t room = 1;
  for (uint32_t length = 1; length <= longest; ++length) {
    room *= 2;
    if (count[length] > room) fail("codes of letters do not fit side by side");
    room -= count[length];
  }
  for (uint8_t length = 1; length <= longest; ++length)
    for (size_t i = 0; i < lengths.size(); ++i)
      if (lengths[i] == length) symbols.push_back(symbols_of[i]);
}

// Reads the words of a block one after the other.
class WordList::Cursor {
 public:
  Cursor(const WordList& words, uint32_t which)
      : words_(words), at_(which ? words.ends_.at(which - 1) : 0), end_(words.bits_.size() * 8) {}

  // False where the bits are no word.
  bool next() {
    uint32_t shared = 0;
    if (!first_ && !read(words_.shared_, shared)) return false;
    first_ = false;
    if (shared > size_) return false;
    size_ = shared;
    uint32_t byte = size_ ? static_cast<uint8_t>(word_[size_ - 1]) : 0;
    while (read(words_.following_[byte], byte)) {
      if (byte == 0) return size_ > 0;
      if (size_ == longest) return false;
      word_[size_++] = static_cast<char>(byte);
    }
    return false;
  }

  std::string_view word() const { return {word_, size_}; }
  uint64_t position() const { return at_; }

 private:
  bool read(const PrefixCode& codes, uint32_t& symbol) {
    uint32_t code = 0, first = 0, index = 0;
    for (uint32_t length = 1; length <= PrefixCode::longest && at_ < end_; ++length, ++at_) {
      code |= words_.bits_[at_ / 8] >> at_ % 8 & 1;
      const uint32_t count = codes.count[length];
      if (code < first + count) {
        symbol = codes.symbols[index + code - first];
        ++at_;
        return true;
      }
      index += count;
      first = (first + count) * 2;
      code *= 2;
    }
    return false;
  }

  const WordList& words_;
  uint64_t at_, end_;
  bool first_ = true;
  uint32_t size_ = 0;
  char word_[longest];
};

WordList::WordList(std::span<const uint8_t> section) {
  Reader reader(section);
  size_ = reader.u32();
  if (size_ < specials || size_ > most_words)
    fail("has " + std::to_string(size_) + " words, expected 3 to 2^24");
  read_codes(reader);
  const uint32_t count = size_ - specials;
  ends_ = Monotone::read(reader, (count + block - 1) / block);
  bits_ = reader.take((ends_.last() + 7) / 8);
  read_padding(reader);
  check();
}

void WordList::read_codes(Reader& reader) {
  const auto used = reader.take(32);
  std::vector<uint8_t> bytes{0};
  for (uint32_t byte = 0; byte < 256; ++byte)
    if (used[byte / 8] >> byte % 8 & 1) bytes.push_back(static_cast<uint8_t>(byte));
  if (used[0] & 1) fail("words hold a byte that is 0");
  std::vector<uint8_t> numbers(256);
  std::iota(numbers.begin(), numbers.end(), 0);
  shared_ = PrefixCode(numbers, read_lengths(reader, numbers.size()));
  const auto lengths = read_lengths(reader, bytes.size() * bytes.size());
  following_.resize(256);
  for (size_t row = 0; row < bytes.size(); ++row)
    following_[bytes[row]] =
        PrefixCode(bytes, std::span(lengths).subspan(row * bytes.size(), bytes.size()));
}

// Every word can be read, and is greater than the one before it in its group.
void WordList::check() const {
  for_each_group(size_ - specials, [&](uint32_t first, uint32_t end) {
    std::string before;
    for (uint32_t i = first; i < end; i += block) {
      Cursor cursor(*this, i / block);
      for (uint32_t word = i; word < std::min(i + block, end); ++word) {
        if (!cursor.next()) fail("word " + std::to_string(word + specials) + " cannot be read");
        if (cursor.word() <= before)
          fail("word " + std::to_string(word + specials) + " is not in alphabetical order");
        before = cursor.word();
      }
      if (cursor.position() != ends_.at(i / block)) fail("a block of words has a wrong size");
    }
    return false;
  });
}

std::optional<uint32_t> WordList::find(std::string_view word) const {
  for (uint32_t id = 0; id < specials; ++id)
    if (word == special[id]) return id;
  std::optional<uint32_t> found;
  for_each_group(size_ - specials, [&](uint32_t first, uint32_t end) {
    found = find_in(first, end, word);
    return found.has_value();
  });
  return found;
}

std::optional<uint32_t> WordList::find_in(uint32_t first, uint32_t end,
                                          std::string_view word) const {
  uint32_t low = first / block, high = (end - 1) / block;
  while (low < high) {  // the last block that does not begin above the word
    const uint32_t middle = (low + high + 1) / 2;
    Cursor cursor(*this, middle);
    if (cursor.next() && cursor.word() <= word)
      low = middle;
    else
      high = middle - 1;
  }
  Cursor cursor(*this, low);
  for (uint32_t i = low * block; i < std::min(low * block + block, end) && cursor.next(); ++i)
    if (cursor.word() == word) return i + specials;
  return std::nullopt;
}

std::string WordList::at(uint32_t id) const {
  if (id < specials) return std::string(special[id]);
  const uint32_t place = id - specials;
  Cursor cursor(*this, place / block);
  for (uint32_t i = 0; i <= place % block && cursor.next(); ++i) {
  }
  return std::string(cursor.word());
}

std::vector<std::string> WordList::all() const {
  std::vector<std::string> result(special.begin(), special.end());
  result.reserve(size_);
  for (uint32_t which = 0; result.size() < size_; ++which) {
    Cursor cursor(*this, which);
    for (uint32_t i = 0; i < block && result.size() < size_; ++i) {
      cursor.next();
      result.emplace_back(cursor.word());
    }
  }
  return result;
}

}  // namespace tinyvox
