// Memory for the codes of large matrices. A frame reads all of them: in pages of 4 KiB their places
// in the caches are a matter of luck, and each page takes an entry of the translation buffers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace tinyvox {

inline constexpr size_t large_page = size_t{1} << 21;

// Large pages, as many as are used at least by half; small ones after them, or where there are
// none.
template <typename T>
struct LargePages {
  using value_type = T;

  LargePages() = default;
  template <typename Other>
  explicit LargePages(const LargePages<Other>&) {}
  bool operator==(const LargePages&) const { return true; }

  T* allocate(size_t count) {
    const size_t bytes = count * sizeof(T), large = in_large_pages(bytes);
    if (large == 0) return static_cast<T*>(::operator new(bytes));
    void* memory = ::operator new(std::max(bytes, large), std::align_val_t{large_page});
#if defined(__linux__)
    madvise(memory, large, MADV_HUGEPAGE);  // a wish: where it fails, pages are small
#endif
    return static_cast<T*>(memory);
  }

  void deallocate(T* memory, size_t count) {
    if (in_large_pages(count * sizeof(T)) == 0)
      ::operator delete(memory);
    else
      ::operator delete(memory, std::align_val_t{large_page});
  }

 private:
  static constexpr size_t in_large_pages(size_t bytes) {
    return (bytes + large_page / 2) / large_page * large_page;
  }
};

}  // namespace tinyvox
