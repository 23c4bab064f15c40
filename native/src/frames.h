// A queue of frames in one piece of memory, so that a window of several frames is one pointer.
// Frames of size 0 are only counted. Queues may share a store, if never two of them hold frames.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace tinyvox {

class Frames {
 public:
  using Store = std::vector<float>;

  Frames(size_t size, Store& store) : size_(size), store_(&store) {}

  size_t count() const { return end_ - begin_; }
  size_t peak() const { return peak_; }    // the largest length so far
  size_t added() const { return added_; }  // all frames since it was cleared
  const float* data() const { return store_->data() + begin_ * size_; }
  float* last(size_t frames) { return store_->data() + (end_ - frames) * size_; }

  // Allocates room for so many frames.
  void reserve(size_t frames) { store_->resize(std::max(store_->size(), frames * size_)); }

  // Adds `frames` frames at the end, which the caller fills. Allocates if the reserved room is too
  // small.
  float* extend(size_t frames) {
    if ((end_ + frames) * size_ > store_->size()) make_room(frames);
    float* space = store_->data() + end_ * size_;
    end_ += frames;
    added_ += frames;
    peak_ = std::max(peak_, count());
    return space;
  }

  void drop(size_t frames) {
    begin_ += frames;
    if (begin_ == end_) begin_ = end_ = 0;
  }

  void clear() { begin_ = end_ = added_ = 0; }

 private:
  void make_room(size_t frames) {
    std::copy(store_->begin() + begin_ * size_, store_->begin() + end_ * size_, store_->begin());
    end_ -= begin_;
    begin_ = 0;
    if ((end_ + frames) * size_ > store_->size())
      store_->resize(std::max((end_ + frames) * size_, 2 * store_->size()));
  }

  size_t size_, begin_ = 0, end_ = 0, peak_ = 0, added_ = 0;
  Store* store_;
};

}  // namespace tinyvox
