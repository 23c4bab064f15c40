// Codes and messages, settings that grow, and the version.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <new>
#include <stdexcept>
#include <system_error>

#include "budget.h"
#include "c_api/handles.h"

namespace tinyvox::c_api {
namespace {

// A fixed buffer, so that the error "out of memory" needs no memory.
thread_local char last_message[1024];

constexpr uint64_t most_settings = 4096;  // bytes; a larger struct was never filled in

}  // namespace

// The end of a long path says more than its beginning.
tv_error fail(tv_error error, const char* subject, const char* reason) noexcept {
  constexpr size_t most = 500;
  const size_t length = std::strlen(subject), cut = length > most ? length - most : 0;
  std::snprintf(last_message, sizeof last_message, "%s%s: %s", cut ? "..." : "", subject + cut,
                reason);
  return error;
}

tv_error caught(const char* subject) noexcept {
  try {
    throw;
  } catch (const BusyError& error) {
    return fail(TV_ERROR_BUSY, subject, error.what());
  } catch (const LimitError& error) {
    return fail(TV_ERROR_LIMIT, subject, error.what());
  } catch (const FormatError& error) {
    return fail(TV_ERROR_FORMAT, subject, error.what());
  } catch (const std::system_error& error) {
    return fail(TV_ERROR_FILE, subject, error.what());
  } catch (const std::bad_alloc&) {
    return fail(TV_ERROR_MEMORY, subject, "out of memory");
  } catch (const std::length_error&) {  // a vector longer than any memory
    return fail(TV_ERROR_MEMORY, subject, "too large for the memory");
  } catch (const std::runtime_error& error) {  // thrown only by the choice of kernels
    return fail(TV_ERROR_ISA, subject, error.what());
  } catch (const std::invalid_argument& error) {
    return fail(TV_ERROR_ARGUMENT, subject, error.what());
  } catch (const std::exception& error) {
    return fail(TV_ERROR_INTERNAL, subject, error.what());
  } catch (...) {
    return fail(TV_ERROR_INTERNAL, subject, "unknown exception");
  }
}

const Speech* speech_of(const tv_model* model, const char* caller, tv_error& error) {
  const Speech* const speech = model ? model->shared->speech() : nullptr;
  error = TV_OK;
  if (!model)
    error = fail(TV_ERROR_ARGUMENT, caller, "model is NULL");
  else if (!speech)
    error = fail(TV_ERROR_NO_SPEECH, caller, "the model has no speech card, so it gives no text");
  return speech;
}

tv_error read_settings(const char* caller, const void* given, void* known, size_t known_size) {
  uint64_t size;
  std::memcpy(&size, given, sizeof size);
  if (size < sizeof size || size > most_settings)
    return fail(TV_ERROR_ARGUMENT, caller,
                "the options have no size, or a wrong one; set them to their defaults first");
  const auto* const bytes = static_cast<const uint8_t*>(given);
  if (std::any_of(bytes + std::min<uint64_t>(size, known_size), bytes + size,
                  [](uint8_t byte) { return byte != 0; }))
    return fail(TV_ERROR_ARGUMENT, caller,
                "there are options that this version of the library does not have");
  std::memcpy(known, given, std::min<uint64_t>(size, known_size));
  return TV_OK;
}

void give_defaults(void* settings, uint64_t size, const void* defaults, size_t known_size) {
  if (!settings || size < sizeof size) return;
  std::memset(settings, 0, size);
  std::memcpy(settings, defaults, std::min<uint64_t>(size, known_size));
  std::memcpy(settings, &size, sizeof size);
}

}  // namespace tinyvox::c_api

const char* tv_version() { return TV_VERSION; }

uint32_t tv_version_number() { return TV_VERSION_NUMBER; }

const char* tv_error_name(int code) {
  switch (code) {
#define NAME(constant) \
  case constant:       \
    return #constant;
    NAME(TV_OK)
    NAME(TV_ERROR_ARGUMENT)
    NAME(TV_ERROR_FILE)
    NAME(TV_ERROR_FORMAT)
    NAME(TV_ERROR_MEMORY)
    NAME(TV_ERROR_ISA)
    NAME(TV_ERROR_NO_SPEECH)
    NAME(TV_ERROR_FINISHED)
    NAME(TV_ERROR_BROKEN)
    NAME(TV_ERROR_INTERNAL)
    NAME(TV_ERROR_BUSY)
    NAME(TV_ERROR_LIMIT)
#undef NAME
  }
  return "unknown";
}

const char* tv_error_message() { return tinyvox::c_api::last_message; }
