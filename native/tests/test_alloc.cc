// Opens the .tvx file of the first argument, feeds noise to a stream in pieces of many sizes, and
// counts the allocations after the stream was made. Prints their number; exits 0 only if it is 0.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <new>

#include "speech.h"

namespace {
size_t allocations = 0;
}

void* operator new(size_t size) {
  ++allocations;
  if (void* p = std::malloc(size ? size : 1)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }

int main(int, char** arguments) {
  std::ifstream stream(arguments[1], std::ios::binary);
  const std::vector<char> chars{std::istreambuf_iterator<char>(stream), {}};
  const std::vector<uint8_t> bytes(chars.begin(), chars.end());
  auto model =
      std::make_shared<const tinyvox::Model>(tinyvox::parse(bytes), tinyvox::kernels_scalar);
  tinyvox::SpeechStream speech(model);
  std::vector<float> noise(30000);
  uint32_t state = 1;
  for (float& sample : noise) {
    state = state * 1664525u + 1013904223u;
    sample = static_cast<float>(state >> 8) / (1 << 24) - 0.5f;
  }
  const size_t before = allocations;
  for (int utterance = 0; utterance < 2; ++utterance) {
    for (size_t piece : {1u, 7u, 319u, 320u, 321u, 4000u, 30000u})
      for (size_t start = 0; start < noise.size(); start += piece)
        speech.feed(std::span(noise).subspan(start, std::min(piece, noise.size() - start)));
    speech.finish();
    speech.reset();
  }
  std::printf("%zu allocations to open, %zu after\n", before, allocations - before);
  return before > 0 && allocations == before ? 0 : 1;
}
