#include "resample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double pi = 3.14159265358979323846;
static const double band = 0.96;  // of what both rates can hold; the filter is at half there
static const uint32_t zero_crossings = 32;  // on each side

int resampler_open(resampler* r, uint32_t from, uint32_t to) {
  memset(r, 0, sizeof *r);
  r->from = from;
  r->to = to;
  r->cutoff = band * (to < from ? (double)to / from : 1);
  r->half = (uint32_t)ceil(zero_crossings / r->cutoff);
  r->size = 2 * r->half + 2;
  r->ring = calloc(r->size, sizeof *r->ring);
  return r->ring ? 0 : -1;
}

void resampler_push(resampler* r, float sample) { r->ring[r->taken++ % r->size] = sample; }

static double filter(const resampler* r, double distance) {
  const double x = pi * r->cutoff * distance, at = distance / r->half;
  if (fabs(at) >= 1) return 0;
  return r->cutoff * (fabs(x) < 1e-9 ? 1 : sin(x) / x) * (0.5 + 0.5 * cos(pi * at));
}

int resampler_pull(resampler* r, float* sample) {
  const uint64_t whole = r->given * r->from / r->to, rest = r->given * r->from % r->to;
  const uint64_t last = whole + r->half;
  double sum = 0;
  if (r->taken <= last) return 0;
  for (uint64_t i = whole < r->half ? 0 : whole - r->half; i <= last; ++i) {
    const double distance = (double)(int64_t)(whole - i) + (double)rest / r->to;
    sum += r->ring[i % r->size] * filter(r, distance);
  }
  *sample = (float)sum;
  ++r->given;
  return 1;
}

void resampler_close(resampler* r) { free(r->ring); }
