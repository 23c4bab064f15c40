// Makes the parts of a mutated file fit each other again, so that it still parses.
#pragma once

#include "layers/type.h"
#include "random.h"

namespace tinyvox::fuzz {

// Whether a layer of this kind reads several inputs.
inline bool joins(LayerKind kind) { return type_of(kind).record.most_inputs > 1; }

// Goes through the layers in order: takes inputs that exist and that the layer can read, gives
// tensors the shapes that follow, and makes what is missing. The card and its tokens follow at the
// end. What cannot be made to fit becomes a `flatten`.
void fit(File& file, Random& random);

}  // namespace tinyvox::fuzz
