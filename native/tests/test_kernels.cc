// Compares every instruction set that runs here with the scalar reference, to the last bit, and
// float results also with exact ones. Usage: test_kernels [SEED [LARGEST]], the most rows and
// columns. Prints a line for each set; exits 1 at the first wrong value.
#include "kernel_checks.h"

using namespace tinyvox;

namespace {

constexpr size_t all_sizes[] = {1, 7, 33, 97, 130, 512};

}  // namespace

int main(int count, char** arguments) {
  const int seed = count > 1 ? std::atoi(arguments[1]) : 1;
  const int largest = count > 2 ? std::atoi(arguments[2]) : 512;
  std::span<const size_t> sizes = all_sizes;
  while (sizes.size() > 1 && static_cast<int>(sizes.back()) > largest)
    sizes = sizes.first(sizes.size() - 1);

  const char* names[8];
  for (const char* name : std::span(names, kernel_names(names, 8))) {
    const Kernels& set = *kernels_named(name);
    bits.seed(static_cast<uint32_t>(seed));
    checked = 0;
    check_matrices(set, sizes);
    for (size_t size : all_sizes) check_vectors(set, size);
    std::printf("%s%s: %zu values are as they should be\n", name,
                &set == &kernels() ? " (chosen)" : "", checked);
  }
}
