// The Python bindings. Each part of the core has one file here, which holds no logic of its own.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <span>

#include "features.h"

namespace tinyvox {

// Features [frames, size] of an utterance.
nanobind::object features_of(std::shared_ptr<const FeatureTables> tables,
                             std::span<const float> samples);

void bind_features(nanobind::module_& m);
void bind_file(nanobind::module_& m);
void bind_kernels(nanobind::module_& m);
void bind_rdo(nanobind::module_& m);
void bind_session(nanobind::module_& m);

}  // namespace tinyvox
