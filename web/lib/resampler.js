// Resampling while the audio comes: a low-pass filter, sin(x)/x under a Hann window, put at the times
// of the new samples. The same filter as native/examples/resample.c, from a table.

const BAND = 0.96; // of what both rates can hold; the filter is at half there
const ZERO_CROSSINGS = 32; // on each side

function divisor(a, b) {
  return b === 0 ? a : divisor(b, a % b);
}

/** Converts samples from one rate to another, both whole numbers of samples a second. */
export class Resampler {
  #up; // new samples in the time of #down old ones
  #down;
  #half; // old samples on each side of a new one
  #filters = new Map(); // by the place between two old samples, in 1 / #up
  #cutoff;
  #kept; // old samples, the first of which is number #first
  #first;
  #given = 0;

  constructor(from, to) {
    const common = divisor(from, to);
    this.#up = to / common;
    this.#down = from / common;
    this.#cutoff = BAND * Math.min(1, to / from);
    this.#half = Math.ceil(ZERO_CROSSINGS / this.#cutoff);
    this.#kept = new Float32Array(this.#half); // silence before the first
    this.#first = -this.#half;
  }

  push(samples) {
    if (this.#up === this.#down) return samples;
    this.#keep(samples);
    const end = this.#first + this.#kept.length - this.#half; // the last that has all it needs
    const given = [];
    for (let place; (place = this.#place()).whole < end; ++this.#given) {
      given.push(this.#at(place));
    }
    this.#forget();
    return Float32Array.from(given);
  }

  finish() {
    return this.push(new Float32Array(this.#half));
  }

  #place() {
    const at = this.#given * this.#down;
    return { whole: Math.floor(at / this.#up), rest: at % this.#up };
  }

  #at({ whole, rest }) {
    const filter = this.#filter(rest);
    const start = whole - this.#half - this.#first;
    let sum = 0;
    for (let i = 0; i < filter.length; ++i) sum += filter[i] * this.#kept[start + i];
    return sum;
  }

  #filter(rest) {
    let filter = this.#filters.get(rest);
    if (!filter) {
      const response = (_, i) => this.#response(this.#half - i + rest / this.#up);
      filter = Float64Array.from({ length: 2 * this.#half + 1 }, response);
      this.#filters.set(rest, filter);
    }
    return filter;
  }

  #response(distance) {
    const x = Math.PI * this.#cutoff * distance, at = distance / this.#half;
    if (Math.abs(at) >= 1) return 0;
    const wave = Math.abs(x) < 1e-9 ? 1 : Math.sin(x) / x;
    return this.#cutoff * wave * (0.5 + 0.5 * Math.cos(Math.PI * at));
  }

  #keep(samples) {
    const all = new Float32Array(this.#kept.length + samples.length);
    all.set(this.#kept);
    all.set(samples, this.#kept.length);
    this.#kept = all;
  }

  #forget() {
    const unused = this.#place().whole - this.#half - this.#first;
    if (unused <= 0) return;
    this.#kept = this.#kept.slice(unused);
    this.#first += unused;
  }
}
