#include "prefixes.h"

#include <algorithm>

namespace tinyvox {
namespace {

// Adds `size` - `from` numbers, so that the smallest is taken first.
void free_from(std::vector<int32_t>& free, size_t from, size_t size) {
  free.reserve(size);
  for (size_t i = size; i-- > from;) free.push_back(static_cast<int32_t>(i));
}

int32_t take(std::vector<int32_t>& free) {
  const int32_t taken = free.back();
  free.pop_back();
  return taken;
}

}  // namespace

PrefixTree::PrefixTree(size_t capacity) : prefixes_(capacity) { clear(); }

void PrefixTree::clear() {
  free_.clear();
  free_from(free_, 0, prefixes_.size());
  root_ = take(free_);
  prefixes_[root_] = {};
}

void PrefixTree::grow() {
  const size_t size = prefixes_.size();
  prefixes_.resize(2 * size);
  free_from(free_, size, 2 * size);
}

int32_t PrefixTree::child(int32_t parent, uint32_t token) const {
  int32_t child = prefixes_[parent].child;
  while (child != nowhere && prefixes_[child].token != token) child = prefixes_[child].sibling;
  return child;
}

int32_t PrefixTree::add(int32_t parent, uint32_t token) {
  const int32_t added = take(free_);
  Prefix& prefix = prefixes_[added];
  prefix = {};
  prefix.parent = parent;
  prefix.token = token;
  prefix.sibling = prefixes_[parent].child;
  prefixes_[parent].child = added;
  return added;
}

void PrefixTree::release(int32_t prefix) {
  while (prefix != root_ && prefixes_[prefix].place == nowhere &&
         prefixes_[prefix].child == nowhere) {
    const int32_t parent = prefixes_[prefix].parent;
    int32_t* link = &prefixes_[parent].child;
    while (*link != prefix) link = &prefixes_[*link].sibling;
    *link = prefixes_[prefix].sibling;
    prefixes_[prefix].place = unused;
    free_.push_back(prefix);
    prefix = parent;
  }
}

size_t PrefixTree::depth(int32_t prefix) const {
  size_t depth = 0;
  for (; prefix != root_; prefix = prefixes_[prefix].parent) ++depth;
  return depth;
}

void PrefixTree::read(int32_t prefix, std::vector<uint32_t>& tokens) const {
  const auto begin = static_cast<ptrdiff_t>(tokens.size());
  for (; prefix != root_; prefix = prefixes_[prefix].parent)
    tokens.push_back(prefixes_[prefix].token);
  std::reverse(tokens.begin() + begin, tokens.end());
}

void PrefixTree::commit(std::vector<uint32_t>& tokens) {
  while (prefixes_[root_].place == nowhere) {
    const int32_t only = prefixes_[root_].child;
    if (only == nowhere || prefixes_[only].sibling != nowhere) return;
    free_.push_back(root_);
    root_ = only;
    prefixes_[root_].parent = nowhere;
    tokens.push_back(prefixes_[root_].token);
  }
}

FrameLists::FrameLists(size_t capacity) : entries_(capacity) { clear(); }

void FrameLists::clear() {
  free_.clear();
  free_from(free_, 0, entries_.size());
}

void FrameLists::grow() {
  const size_t size = entries_.size();
  entries_.resize(2 * size);
  free_from(free_, size, 2 * size);
}

int32_t FrameLists::add(int32_t before, uint64_t frame) {
  const int32_t added = take(free_);
  entries_[added] = {before, 1, frame};
  use(before);
  return added;
}

void FrameLists::release(int32_t list) {
  while (list != nowhere && --entries_[list].uses == 0) {
    free_.push_back(list);
    list = entries_[list].before;
  }
}

void FrameLists::read(int32_t list, std::vector<uint64_t>& frames) const {
  const size_t begin = frames.size();
  for (; list != nowhere; list = entries_[list].before) frames.push_back(entries_[list].frame);
  std::reverse(frames.begin() + static_cast<ptrdiff_t>(begin), frames.end());
}

int32_t FrameLists::keep(int32_t list, size_t kept) {
  if (kept == 0) {
    release(list);
    return nowhere;
  }
  int32_t last = list;
  while (--kept > 0 && last != nowhere) last = entries_[last].before;
  if (last != nowhere && entries_[last].before != nowhere) {
    release(entries_[last].before);
    entries_[last].before = nowhere;
  }
  return list;
}

}  // namespace tinyvox
