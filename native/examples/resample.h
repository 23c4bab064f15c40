// Resampling while the audio comes: a low-pass filter, sin(x)/x under a Hann window, put at the
// times of the new samples.
#ifndef TINYVOX_EXAMPLE_RESAMPLE_H
#define TINYVOX_EXAMPLE_RESAMPLE_H

#include <stdint.h>

typedef struct resampler {
  uint32_t from, to;
  uint32_t half;          // samples of the source on each side of a new one
  double cutoff;          // the highest frequency kept, as a share of the source's
  uint64_t taken, given;  // samples so far
  float* ring;            // the last samples, sample i at i % size
  uint32_t size;
} resampler;

// From and to so many samples a second. Returns 0, or -1 where there is no memory.
int resampler_open(resampler* r, uint32_t from, uint32_t to);

// Takes a sample, after which all that it makes ready is to be fetched.
void resampler_push(resampler* r, float sample);

// Gives the next new sample. Returns 0 where it needs more of the source.
int resampler_pull(resampler* r, float* sample);

void resampler_close(resampler* r);

#endif  // TINYVOX_EXAMPLE_RESAMPLE_H
