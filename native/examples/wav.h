// A WAV file, or a pipe that gives one, as floating-point samples of one channel. It reads what
// Python's `tinyvox transcribe` reads, and says the same where it cannot: integers of 8 to 64 bits,
// floats of 32 and 64, A-law and mu-law, any number of channels, 1,000 to 1,000,000 samples a
// second. A size of 0 or near the largest means "until the end of the file".
#ifndef TINYVOX_EXAMPLE_WAV_H
#define TINYVOX_EXAMPLE_WAV_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct wav_reader {
  FILE* file;
  uint32_t rate, channels;
  uint32_t tag, width;  // the coding, and the bytes of a sample
  uint64_t promised;    // bytes of samples by the header; UINT64_MAX if it does not know
  uint64_t taken, frames;
  char fault[160];  // what is wrong, or ""
} wav_reader;

// Goes to the first sample of an open file. Returns 0, or -1 and says in `fault` what is wrong.
int wav_open(wav_reader* wav, FILE* file);

// Reads up to `count` frames and averages their channels. Returns how many there were: fewer than
// `count` at the end of the samples, and where `fault` says what is wrong with the next one.
size_t wav_read(wav_reader* wav, float* samples, size_t count);

#endif  // TINYVOX_EXAMPLE_WAV_H
