// Runs on the audio thread: mixes the channels, resamples, sends pieces of 20 milliseconds.
import { mixed } from "./channels.js";
import { Resampler } from "./resampler.js";

class TinyvoxMicrophone extends AudioWorkletProcessor {
  #resampler;
  #piece;
  #filled = 0;
  #to = null;

  constructor({ processorOptions }) {
    super();
    this.#resampler = new Resampler(sampleRate, processorOptions.sampleRate);
    this.#piece = new Float32Array(Math.round(processorOptions.sampleRate / 50));
    this.port.onmessage = ({ data }) => (data ? (this.#to = data) : this.#finish());
  }

  process([channels]) {
    if (!this.#to || channels.length === 0) return true;
    this.#take(this.#resampler.push(mixed(channels)));
    return true;
  }

  #take(samples) {
    for (let start = 0; start < samples.length; ) {
      const some = samples.subarray(start, start + this.#piece.length - this.#filled);
      this.#piece.set(some, this.#filled);
      this.#filled += some.length;
      start += some.length;
      if (this.#filled === this.#piece.length) this.#send();
    }
  }

  #send() {
    this.#to.postMessage(this.#piece.slice(0, this.#filled));
    this.#filled = 0;
  }

  #finish() {
    this.#take(this.#resampler.finish());
    this.#send();
    this.#to.postMessage(null);
    this.#to = null;
    this.port.postMessage("finished");
  }
}

registerProcessor("tinyvox-microphone", TinyvoxMicrophone);
