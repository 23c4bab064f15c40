// What is fuzzed. A target is a file that defines these functions; a driver calls them: ours, or
// libFuzzer.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "mutate.h"

namespace tinyvox::fuzz {

// How far an input came: refused on reading; read, but not tried out, as that would take long; or
// tried out.
enum class Reached { refused, read, ran };

// Does everything with the input. Calls `fault` if a result is wrong.
Reached try_input(std::span<const uint8_t> bytes);

// The next input, made of two others; at most `most` bytes.
Bytes next_input(std::span<const uint8_t> bytes, std::span<const uint8_t> other, size_t most,
                 Random& random);

// Says what is wrong, and ends the process in a way that the driver notices.
[[noreturn]] void fault(const std::string& what);

}  // namespace tinyvox::fuzz
