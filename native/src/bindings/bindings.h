// The Python bindings. Each part of the core has one file here, which holds no logic of its own.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>
#include <memory>
#include <span>

#include "decode_ctc.h"
#include "features.h"

namespace tinyvox {

// Features [frames, size] of an utterance.
nanobind::object features_of(std::shared_ptr<const FeatureTables> tables,
                             std::span<const float> samples);

// Calls work(bytes) with the bytes of a file, without Python's lock. Takes any path, as Python's
// own functions do, and raises OSError if it cannot be read.
void with_file(nanobind::handle path,
               const std::function<void(std::span<const uint8_t> bytes)>& work);

// As Python sees them: text, tokens, frames and score of each.
nanobind::list transcripts(const BeamDecoder& decoder, const std::vector<Transcript>& found);

// Calls work(name) with the name of a file, as with_file, which this is a part of.
void with_path(nanobind::handle path, const std::function<void(const char* name)>& work);

void bind_decode(nanobind::module_& m);
void bind_features(nanobind::module_& m);
void bind_file(nanobind::module_& m);
void bind_kernels(nanobind::module_& m);
void bind_ngram(nanobind::module_& m);
void bind_rdo(nanobind::module_& m);
void bind_session(nanobind::module_& m);

}  // namespace tinyvox
