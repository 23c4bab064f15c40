// Opens models, and says what they take and give.
#include <cstdio>

#include "c_api/handles.h"
#include "mapped_file.h"
#include "open.h"

namespace tinyvox::c_api {
namespace {

constexpr tv_options default_options{sizeof(tv_options), 1, 0};

tv_error check_threads(const char* caller, uint64_t threads) {
  if (threads >= 1 && threads <= max_threads) return TV_OK;
  char reason[80];
  std::snprintf(reason, sizeof reason, "threads are %llu, expected 1 to %zu",
                static_cast<unsigned long long>(threads), max_threads);
  return fail(TV_ERROR_ARGUMENT, caller, reason);
}

// `source` is what the caller opens, called `name`; `read` gives its bytes, and may throw. Errors
// of the content name `subject`.
template <typename Read>
tv_error open(const char* caller, const void* source, const char* name, const char* subject,
              Read read, const tv_options* given, tv_model** model) {
  if (!model) return fail(TV_ERROR_ARGUMENT, caller, "model is NULL");
  *model = nullptr;
  if (!source) return fail(TV_ERROR_ARGUMENT, caller, name);
  tv_options options = default_options;
  if (const tv_error error = read_settings(caller, given, options)) return error;
  if (const tv_error error = check_threads(caller, options.threads)) return error;
  return attempt(subject, [&] {
    const auto& content = read();
    const OpenOptions wanted{static_cast<size_t>(options.threads), options.max_memory};
    *model = new tv_model{open_model(content.bytes(), kernels(), wanted)};
    return TV_OK;
  });
}

tv_error open_path(const char* caller, const char* path, const tv_options* options,
                   tv_model** model) {
  return open(caller, path, "path is NULL", path, [&] { return MappedFile(path); }, options, model);
}

struct InMemory {
  std::span<const uint8_t> content;

  std::span<const uint8_t> bytes() const { return content; }
};

tv_error open_bytes(const char* caller, const void* bytes, size_t size, const tv_options* options,
                    tv_model** model) {
  const InMemory content{{static_cast<const uint8_t*>(bytes), size}};
  return open(caller, bytes, "bytes is NULL", caller, [&] { return content; }, options, model);
}

const Speech* card(const tv_model* model) { return model ? model->shared->speech() : nullptr; }

}  // namespace
}  // namespace tinyvox::c_api

using namespace tinyvox::c_api;

void tv_options_defaults(tv_options* options, size_t size) {
  give_defaults(options, size, &default_options, sizeof default_options);
}

tv_error tv_open(const char* path, tv_model** model) {
  return open_path(__func__, path, nullptr, model);
}

tv_error tv_open_with(const char* path, const tv_options* options, tv_model** model) {
  return open_path(__func__, path, options, model);
}

tv_error tv_open_threads(const char* path, unsigned threads, tv_model** model) {
  const tv_options options{sizeof options, threads, 0};
  return open_path(__func__, path, &options, model);
}

tv_error tv_open_limited(const char* path, unsigned threads, uint64_t max_memory,
                         tv_model** model) {
  const tv_options options{sizeof options, threads, max_memory};
  return open_path(__func__, path, &options, model);
}

tv_error tv_open_memory(const void* bytes, size_t size, tv_model** model) {
  return open_bytes(__func__, bytes, size, nullptr, model);
}

tv_error tv_open_memory_with(const void* bytes, size_t size, const tv_options* options,
                             tv_model** model) {
  return open_bytes(__func__, bytes, size, options, model);
}

tv_error tv_open_memory_limited(const void* bytes, size_t size, unsigned threads,
                                uint64_t max_memory, tv_model** model) {
  const tv_options options{sizeof options, threads, max_memory};
  return open_bytes(__func__, bytes, size, &options, model);
}

void tv_close(tv_model* model) { delete model; }

uint32_t tv_sample_rate(const tv_model* model) {
  const tinyvox::Speech* const speech = card(model);
  return speech ? speech->features.sample_rate : 0;
}

uint32_t tv_token_count(const tv_model* model) {
  const tinyvox::Speech* const speech = card(model);
  return speech ? static_cast<uint32_t>(speech->tokens.size()) : 0;
}

const char* tv_token_text(const tv_model* model, uint32_t token) {
  return token < tv_token_count(model) ? card(model)->tokens[token].c_str() : nullptr;
}

uint32_t tv_blank(const tv_model* model) {
  const tinyvox::Speech* const speech = card(model);
  return speech ? speech->blank : 0;
}

double tv_frame_seconds(const tv_model* model) {
  return card(model) ? tinyvox::seconds_a_frame(*model->shared) : 0;
}

const char* tv_isa(const tv_model* model) { return model ? model->shared->kernels().isa : ""; }
