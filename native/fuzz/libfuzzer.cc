// The same targets for Clang's libFuzzer, which is guided by coverage and knows our mutations. At
// its end the process prints the same JSON as our driver.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "target.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

namespace {

using namespace tinyvox::fuzz;

struct Counts {
  unsigned long long executions = 0, read = 0, ran = 0;
  const std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();

  ~Counts() {
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    std::printf(
        "{\"executions\": %llu, \"seconds\": %.1f, \"read\": %llu, \"ran\": %llu, \"faults\": 0}\n",
        executions, time.count(), read, ran);
  }
} counts;

size_t store(const Bytes& bytes, uint8_t* data, size_t most) {
  const size_t size = std::min(bytes.size(), most);
  std::copy_n(bytes.begin(), size, data);
  return size;
}

}  // namespace

void tinyvox::fuzz::fault(const std::string& what) {
  std::fprintf(stderr, "fault: %s\n", what.c_str());
  std::abort();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Reached far = try_input({data, size});
  ++counts.executions;
  counts.read += far != Reached::refused;
  counts.ran += far == Reached::ran;
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned seed) {
  Random random(seed);
  if (random.one_in(16)) return LLVMFuzzerMutate(data, size, most);  // with its dictionary
  return store(next_input({data, size}, {data, size}, most, random), data, most);
}

extern "C" size_t LLVMFuzzerCustomCrossOver(const uint8_t* one, size_t size, const uint8_t* other,
                                            size_t other_size, uint8_t* out, size_t most,
                                            unsigned seed) {
  Random random(seed);
  return store(next_input({one, size}, {other, other_size}, most, random), out, most);
}
