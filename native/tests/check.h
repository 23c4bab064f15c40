// What the native tests share: checks that end the process, and noise.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "../fuzz/random.h"
#include "file.h"

namespace tinyvox::test {

using Bytes = std::vector<uint8_t>;

inline size_t checked = 0;

inline void expect(bool right, const std::string& what) {
  ++checked;
  if (right) return;
  std::printf("wrong: %s\n", what.c_str());
  std::exit(1);
}

// Says how many checks there were; none would be a fault of the test.
inline int finish() {
  std::printf("%zu checks passed\n", checked);
  return checked == 0;
}

// `work` must raise FormatError with one line that holds `message`.
template <typename Work>
void expect_refused(Work work, const std::string& what, const std::string& message = "") {
  try {
    work();
  } catch (const FormatError& error) {
    const std::string text = error.what();
    expect(text.find('\n') == std::string::npos, what + ": several lines: " + text);
    return expect(text.find(message) != std::string::npos, what + " gives '" + text + "'");
  }
  expect(false, what + " is not refused");
}

struct Seed {
  std::string name;
  Bytes bytes;
};

// Small files of every kind, in the order of their names.
inline std::vector<Seed> seeds() {
  std::vector<Seed> found;
  for (const auto& entry : std::filesystem::directory_iterator(TINYVOX_SEEDS "/tvx")) {
    std::ifstream file(entry.path(), std::ios::binary);
    found.push_back({entry.path().stem(), {std::istreambuf_iterator<char>(file), {}}});
  }
  std::ranges::sort(found, {}, &Seed::name);
  return found;
}

}  // namespace tinyvox::test
