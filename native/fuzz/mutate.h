// Changes a .tvx file so that most results are still files: it parses the file, changes what it
// holds, makes the rest fit, and writes it again with right sizes and checksums. A few results have
// faults in their bytes instead.
#pragma once

#include "write.h"

namespace tinyvox::fuzz {

// `other` is a file whose layers may be grafted onto the first one. The result is of at most `most`
// bytes.
Bytes mutate(std::span<const uint8_t> file, std::span<const uint8_t> other, size_t most,
             Random& random);

// Changes, adds, removes or repeats some bytes.
void mutate_bytes(Bytes& bytes, Random& random);

}  // namespace tinyvox::fuzz
