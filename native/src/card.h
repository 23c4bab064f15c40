// Reads and checks the speech card of a file.
#pragma once

#include <cstdint>

#include "bytes.h"
#include "file.h"

namespace tinyvox {

Speech read_speech(Reader& reader, uint32_t version);

}  // namespace tinyvox
