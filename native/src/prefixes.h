// The texts of a beam: a tree of prefixes, and a tree of the frames at which their tokens came.
//
// Both are pools of numbered entries that are used again, so a step of the decoder allocates
// nothing. What all prefixes of the beam share is final: `commit` takes it out of the trees.
#pragma once

#include <cstdint>
#include <vector>

#include "ngram.h"

namespace tinyvox {

inline constexpr int32_t nowhere = -1;
inline constexpr int32_t unused = -2;  // the place of a prefix that is free

// The tokens from the root to here; linked to its parent, its first child, the next of its
// siblings.
struct Prefix {
  int32_t parent = nowhere, child = nowhere, sibling = nowhere;
  int32_t place = nowhere;  // in the beam
  uint32_t token = 0;
  uint32_t word = 0;             // state of the lexicon
  uint32_t hot = 0;              // state of the hot words
  float gain = 0;                // what entering it added to the score
  float word_gain = 0;           // what the end of its word adds; not a number: not known yet
  NgramModel::State context;     // of the words that are complete
  NgramModel::State after_word;  // once word_gain is known
};

class PrefixTree {
 public:
  explicit PrefixTree(size_t capacity);

  void clear();  // leaves the root alone
  int32_t root() const { return root_; }
  Prefix& operator[](int32_t prefix) { return prefixes_[prefix]; }
  const Prefix& operator[](int32_t prefix) const { return prefixes_[prefix]; }

  int32_t child(int32_t parent, uint32_t token) const;             // or nowhere
  size_t depth(int32_t prefix) const;                              // below the root
  void read(int32_t prefix, std::vector<uint32_t>& tokens) const;  // below the root
  int32_t add(int32_t parent, uint32_t token);
  // Frees a prefix that is in no beam and has no children, then its parent likewise.
  void release(int32_t prefix);
  // The prefixes below the root that all others come after, from the root on; they become the
  // root.
  void commit(std::vector<uint32_t>& tokens);

  size_t size() const { return prefixes_.size(); }
  size_t room() const { return free_.size(); }
  void grow();
  size_t bytes() const { return prefixes_.capacity() * bytes_each; }
  static constexpr size_t bytes_each = sizeof(Prefix) + sizeof(int32_t);

 private:
  std::vector<Prefix> prefixes_;
  std::vector<int32_t> free_;
  int32_t root_ = 0;
};

// The frames of the tokens of a prefix, the last one first. Several lists share their beginnings.
class FrameLists {
  struct Entry {
    int32_t before = nowhere;
    uint32_t uses = 0;
    uint64_t frame = 0;
  };

 public:
  explicit FrameLists(size_t capacity);

  void clear();
  int32_t add(int32_t before, uint64_t frame);  // one use
  void use(int32_t list) {
    if (list != nowhere) ++entries_[list].uses;
  }
  void release(int32_t list);
  // The frames of a list, the first one first.
  void read(int32_t list, std::vector<uint64_t>& frames) const;
  // Cuts the oldest entries off a list, those that more than `kept` come after.
  int32_t keep(int32_t list, size_t kept);

  size_t room() const { return free_.size(); }
  void grow();
  size_t bytes() const { return entries_.capacity() * bytes_each; }
  static constexpr size_t bytes_each = sizeof(Entry) + sizeof(int32_t);

 private:
  std::vector<Entry> entries_;
  std::vector<int32_t> free_;
};

}  // namespace tinyvox
