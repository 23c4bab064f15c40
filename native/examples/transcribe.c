// Transcribes a WAV file, 16-bit mono: the text so far on standard error while it grows, the whole
// text on standard output. "-" reads standard input, so that a microphone will do:
//
//   arecord -q -f S16_LE -r 16000 | transcribe model.tvx -
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tinyvox.h"

#define PIECE_MS 20
#define MAX_PIECE 8192  // samples

static int fail(const char* path, const char* reason) {
  fprintf(stderr, "transcribe: %s: %s\n", path, reason);
  return 1;
}

static uint32_t u16(const uint8_t* p) { return p[0] | (uint32_t)p[1] << 8; }
static uint32_t u32(const uint8_t* p) { return u16(p) | u16(p + 2) << 16; }

// By reading, as a pipe cannot seek.
static int skip(FILE* file, uint64_t bytes) {
  for (; bytes; --bytes)
    if (getc(file) == EOF) return 0;
  return 1;
}

// What is wrong with the format, or NULL.
static const char* check_format(const uint8_t* format, uint32_t rate) {
  static char message[96];
  const uint32_t pcm = 1, extensible = 0xFFFE;
  const uint32_t tag = u16(format), channels = u16(format + 2), bits = u16(format + 14);
  if (tag != pcm && !(tag == extensible && u16(format + 24) == pcm))
    return "samples are compressed or floating-point, expected 16-bit PCM";
  if (channels == 1 && bits == 16 && u32(format + 4) == rate) return NULL;
  snprintf(message, sizeof message,
           "%" PRIu32 " channels of %" PRIu32 " bits at %" PRIu32
           " Hz, expected 1 of 16 at %" PRIu32,
           channels, bits, u32(format + 4), rate);
  return message;
}

// Goes to the first sample. Returns what is wrong, or NULL.
static const char* find_samples(FILE* file, uint32_t rate, uint32_t* bytes) {
  uint8_t head[12], format[40];
  int has_format = 0;
  if (fread(head, 1, 12, file) < 12 || memcmp(head, "RIFF", 4) || memcmp(head + 8, "WAVE", 4))
    return "no WAV file";
  while (fread(head, 1, 8, file) == 8) {
    const uint32_t size = u32(head + 4);
    uint32_t taken = 0;
    if (!memcmp(head, "data", 4)) {
      *bytes = size;
      return has_format ? NULL : "its samples come before their format";
    }
    if (!memcmp(head, "fmt ", 4)) {
      const char* fault;
      memset(format, 0, sizeof format);
      taken = size < sizeof format ? size : sizeof format;
      if (size < 16 || fread(format, 1, taken, file) < taken) return "its format is cut short";
      if ((fault = check_format(format, rate))) return fault;
      has_format = 1;
    }
    if (!skip(file, (uint64_t)size - taken + size % 2)) break;  // chunks are padded to even sizes
  }
  return "ends before its samples";
}

// Shows a text that differs from the one before.
static void show(const char* text) {
  static char shown[4096];
  if (!strncmp(shown, text, sizeof shown - 1)) return;
  snprintf(shown, sizeof shown, "%s", text);
  fprintf(stderr, "%s\n", text);
}

// Returns what is wrong, or NULL.
static const char* feed_all(FILE* file, uint32_t bytes, uint32_t rate, tv_stream* stream) {
  static uint8_t raw[2 * MAX_PIECE];
  static int16_t samples[MAX_PIECE];
  // What programs write that do not know yet how long they will record.
  const int endless = bytes == 0 || bytes >= 0x7FFFF000;
  uint64_t left = endless ? UINT64_MAX : bytes / 2;
  uint32_t piece = rate * PIECE_MS / 1000;
  if (piece > MAX_PIECE) piece = MAX_PIECE;
  while (left > 0) {
    const size_t wanted = left < piece ? (size_t)left : piece;
    const size_t count = fread(raw, 2, wanted, file);
    for (size_t i = 0; i < count; ++i) samples[i] = (int16_t)u16(raw + 2 * i);
    if (tv_stream_feed(stream, samples, count)) return tv_error_message();
    show(tv_stream_text(stream));
    left -= count;
    if (count < wanted) break;
  }
  if (ferror(file)) return "cannot be read";
  if (left > 0 && !endless) return "ends before its last sample";
  return tv_stream_finish(stream) ? tv_error_message() : NULL;
}

static int transcribe(FILE* file, const char* path, const tv_model* model, tv_stream* stream) {
  uint32_t bytes = 0;
  const char* fault = find_samples(file, tv_sample_rate(model), &bytes);
  if (!fault) fault = feed_all(file, bytes, tv_sample_rate(model), stream);
  if (fault) return fail(path, fault);
  printf("%s\n", tv_stream_text(stream));
  return 0;
}

int main(int count, char** arguments) {
  tv_model* model = NULL;
  tv_stream* stream = NULL;
  int status = 1;
  if (count != 3) {
    fprintf(stderr, "usage: transcribe MODEL.tvx AUDIO.wav\n");
    return 2;
  }
  if (tv_open(arguments[1], &model) || tv_stream_open(model, &stream)) {
    fprintf(stderr, "transcribe: %s\n", tv_error_message());
  } else {
    FILE* file = strcmp(arguments[2], "-") ? fopen(arguments[2], "rb") : stdin;
    status = file ? transcribe(file, arguments[2], model, stream)
                  : fail(arguments[2], "cannot be opened");
    if (file && file != stdin) fclose(file);
  }
  tv_stream_close(stream);
  tv_close(model);
  return status;
}
