// Transcribes a WAV file: the text so far on standard error while it grows, the whole text on
// standard output. "-" reads standard input, so that a microphone will do:
//
//   arecord -q -f S16_LE -r 16000 | transcribe model.tvx -
#include <stdio.h>
#include <string.h>

#include "resample.h"
#include "tinyvox.h"
#include "wav.h"

#define PIECES_A_SECOND 50
#define MAX_PIECE 8192  // samples

static int fail(const char* path, const char* reason) {
  fprintf(stderr, "transcribe: %s: %s\n", path, reason);
  return 1;
}

// Shows a text that differs from the one before.
static void show(const char* text) {
  static char shown[4096];
  if (!strncmp(shown, text, sizeof shown - 1)) return;
  snprintf(shown, sizeof shown, "%s", text);
  fprintf(stderr, "%s\n", text);
}

static int feed(tv_stream* stream, const float* samples, size_t count) {
  if (tv_stream_feed_float(stream, samples, count)) return -1;
  show(tv_stream_text(stream));
  return 0;
}

// Feeds what a sample makes ready at the model's rate.
static int feed_resampled(tv_stream* stream, resampler* r, float sample) {
  float piece[256];
  size_t ready = 0;
  resampler_push(r, sample);
  while (resampler_pull(r, piece + ready))
    if (++ready == sizeof piece / sizeof *piece) {
      if (feed(stream, piece, ready)) return -1;
      ready = 0;
    }
  return ready ? feed(stream, piece, ready) : 0;
}

// Feeds all samples of a file. Returns what is wrong, or NULL.
static const char* feed_all(wav_reader* wav, resampler* r, tv_stream* stream) {
  static float samples[MAX_PIECE];
  size_t piece = wav->rate / PIECES_A_SECOND, count;
  if (piece > MAX_PIECE) piece = MAX_PIECE;
  do {
    count = wav_read(wav, samples, piece);
    if (r->from == r->to) {
      if (feed(stream, samples, count)) return tv_error_message();
      continue;
    }
    for (size_t i = 0; i < count; ++i)
      if (feed_resampled(stream, r, samples[i])) return tv_error_message();
  } while (count == piece);
  // Silence, for the last samples to come out.
  for (uint32_t i = 0; r->from != r->to && i < r->half; ++i)
    if (feed_resampled(stream, r, 0)) return tv_error_message();
  if (*wav->fault) return wav->fault;
  return tv_stream_finish(stream) ? tv_error_message() : NULL;
}

static int transcribe(FILE* file, const char* path, const tv_model* model, tv_stream* stream) {
  wav_reader wav;
  resampler r;
  const char* fault = "out of memory";
  if (wav_open(&wav, file)) return fail(path, wav.fault);
  if (!resampler_open(&r, wav.rate, tv_sample_rate(model))) fault = feed_all(&wav, &r, stream);
  resampler_close(&r);
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
