#include "wav.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

enum { PCM = 1, FLOAT = 3, A_LAW = 6, MU_LAW = 7, EXTENSIBLE = 0xFFFE };

// Programs that do not know yet how long they will record write 0, or a size from here on.
static const uint32_t unknown_size = 0x7FFFF000;
static const uint32_t lowest_rate = 1000, highest_rate = 1000000;
// Floating-point samples beyond it, 24 dB above full scale, are on another scale by mistake.
static const float loudest = 16;

static uint32_t u16(const uint8_t* p) { return p[0] | (uint32_t)p[1] << 8; }
static uint32_t u32(const uint8_t* p) { return u16(p) | u16(p + 2) << 16; }

static int fail(wav_reader* wav, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(wav->fault, sizeof wav->fault, format, arguments);
  va_end(arguments);
  return -1;
}

// By reading, as a pipe cannot seek.
static int skip(FILE* file, uint64_t bytes) {
  for (; bytes; --bytes)
    if (getc(file) == EOF) return -1;
  return 0;
}

static int check_coding(wav_reader* wav, uint32_t bits) {
  const char* expected;
  int fine;
  switch (wav->tag) {
    case PCM:
      expected = "1 to 64", fine = bits >= 1 && bits <= 64;
      break;
    case FLOAT:
      expected = "32 or 64", fine = bits == 32 || bits == 64;
      break;
    case A_LAW:
    case MU_LAW:
      expected = "8", fine = bits == 8;
      break;
    default:
      return fail(wav, "samples in coding %" PRIu32 ", expected PCM, floats, A-law or mu-law",
                  wav->tag);
  }
  if (fine && wav->channels > 0) return 0;
  return fail(wav, "%" PRIu32 " channels of %" PRIu32 " bits, expected 1 or more of %s",
              wav->channels, bits, expected);
}

static int read_format(wav_reader* wav, uint32_t size) {
  uint8_t format[40] = {0};
  const uint32_t taken = size < sizeof format ? size : sizeof format;
  if (size < 16 || fread(format, 1, taken, wav->file) < taken)
    return fail(wav, "its format is cut short");
  wav->tag = u16(format) == EXTENSIBLE ? u16(format + 24) : u16(format);
  wav->channels = u16(format + 2);
  wav->rate = u32(format + 4);
  wav->width = (u16(format + 14) + 7) / 8;
  if (check_coding(wav, u16(format + 14))) return -1;
  if (wav->rate < lowest_rate || wav->rate > highest_rate)
    return fail(wav, "%" PRIu32 " samples a second, expected %" PRIu32 " to %" PRIu32, wav->rate,
                lowest_rate, highest_rate);
  return skip(wav->file, size - taken) ? fail(wav, "ends before its samples") : 0;
}

int wav_open(wav_reader* wav, FILE* file) {
  uint8_t head[12];
  memset(wav, 0, sizeof *wav);
  wav->file = file;
  if (fread(head, 1, 12, file) < 12 || memcmp(head, "RIFF", 4) || memcmp(head + 8, "WAVE", 4))
    return fail(wav, ferror(file) ? "cannot be read" : "no WAV file");
  while (fread(head, 1, 8, file) == 8) {
    const uint32_t size = u32(head + 4);
    if (!memcmp(head, "data", 4)) {
      if (!wav->width) return fail(wav, "its samples come before their format");
      wav->promised = size == 0 || size >= unknown_size ? UINT64_MAX : size;
      return 0;
    }
    const int is_format = !memcmp(head, "fmt ", 4);
    if (is_format && read_format(wav, size)) return -1;
    // Chunks are padded to even sizes.
    if (skip(file, (is_format ? 0 : (uint64_t)size) + size % 2)) break;
  }
  return fail(wav, "ends before its samples");
}

// G.711, table 1.
static float from_a_law(uint32_t byte) {
  const uint32_t code = byte ^ 0x55, segment = code >> 4 & 7;
  const uint32_t step = ((code & 15) << 4) + (segment ? 0x108 : 8);
  const float size = (float)(step << (segment ? segment - 1 : 0)) / 32768;
  return code & 0x80 ? size : -size;
}

// G.711, table 2.
static float from_mu_law(uint32_t byte) {
  const uint32_t code = ~byte & 0xFF;
  const float size = (float)(((((code & 15) << 3) + 0x84) << (code >> 4 & 7)) - 0x84) / 32768;
  return code & 0x80 ? -size : size;
}

// The bytes moved to the upper end of 64 bits, so that every width has the same full scale.
static float from_integer(uint64_t bits, uint32_t width) {
  int64_t value;
  if (width == 1) return ((float)bits - 128) / 128;
  bits <<= 64 - 8 * width;
  memcpy(&value, &bits, sizeof value);
  return (float)value * 0x1p-63f;
}

static float from_float(uint64_t bits, uint32_t width) {
  const uint32_t low = (uint32_t)bits;
  float single;
  double twice;
  memcpy(&twice, &bits, sizeof twice);
  memcpy(&single, &low, sizeof single);
  return width == 4 ? single : isfinite(twice) && fabs(twice) > FLT_MAX ? INFINITY : (float)twice;
}

// One sample. Returns 0 where the samples, or the file, end.
static int read_sample(wav_reader* wav, float* sample) {
  uint8_t raw[8];
  uint64_t bits = 0;
  const size_t count = fread(raw, 1, wav->width, wav->file);
  wav->taken += count;
  if (count < wav->width) return 0;
  for (uint32_t i = 0; i < wav->width; ++i) bits |= (uint64_t)raw[i] << 8 * i;
  switch (wav->tag) {
    case PCM:
      *sample = from_integer(bits, wav->width);
      break;
    case FLOAT:
      *sample = from_float(bits, wav->width);
      break;
    case A_LAW:
      *sample = from_a_law((uint32_t)bits);
      break;
    default:
      *sample = from_mu_law((uint32_t)bits);
  }
  return 1;
}

static int check_value(wav_reader* wav, float sample) {
  if (!isfinite(sample)) return fail(wav, "sample %" PRIu64 " is NaN or infinite", wav->frames);
  if (fabsf(sample) <= loudest) return 0;
  return fail(wav,
              "sample %" PRIu64
              " is %.6g, expected full scale at 1; divide by the full scale of "
              "the integers that the samples were (32768 for 16 bits)",
              wav->frames, sample);
}

// The file ends: says so where the header, or the system, says otherwise.
static void check_end(wav_reader* wav) {
  if (ferror(wav->file))
    fail(wav, "cannot be read");
  else if (wav->promised != UINT64_MAX && wav->taken < wav->promised)
    fail(wav, "is cut short: its header promises %" PRIu64 " bytes of samples, there are %" PRIu64,
         wav->promised, wav->taken);
}

// One frame. Returns 0 where there is none.
static int read_frame(wav_reader* wav, float* mean) {
  float sample, sum = 0;
  if (wav->promised - wav->taken < (uint64_t)wav->width * wav->channels) {
    // The rest of a frame is no sample, but has to be there.
    while (wav->taken < wav->promised && getc(wav->file) != EOF) ++wav->taken;
    check_end(wav);
    return 0;
  }
  for (uint32_t i = 0; i < wav->channels; ++i) {
    if (!read_sample(wav, &sample)) {
      check_end(wav);
      return 0;
    }
    if (check_value(wav, sample)) return 0;
    sum += sample;
  }
  *mean = sum / (float)wav->channels;
  ++wav->frames;
  return 1;
}

size_t wav_read(wav_reader* wav, float* samples, size_t count) {
  size_t done = 0;
  while (done < count && !*wav->fault && read_frame(wav, samples + done)) ++done;
  return done;
}
