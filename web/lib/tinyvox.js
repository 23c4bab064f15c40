// A model in memory, and streams of text on it: the C API as classes. tinyvox.d.ts has the types.
import { systemImports } from "./system.js";
export { mixed } from "./channels.js";
export { Microphone } from "./microphone.js";
export { Resampler } from "./resampler.js";

const PIECE = 4096; // samples that are copied at a time
const ADDRESSES = 2 ** 32; // bytes that WebAssembly can name: malloc would take larger sizes modulo this

/** What went wrong, in one line; `code` is the name of the C API's, such as "TV_ERROR_FORMAT". */
export class TinyvoxError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "TinyvoxError";
    this.code = code;
  }
}

/**
 * Loads tinyvox.wasm, from beside this file unless `source` is another address, or its bytes. Where
 * there is no server, as in Node, give the bytes.
 */
export async function load(source = new URL("tinyvox.wasm", import.meta.url)) {
  const bytes = isBytes(source) ? source : await fetched(source);
  let memory;
  const { instance } = await compiled(bytes, systemImports(() => memory));
  memory = instance.exports.memory;
  instance.exports._initialize?.();
  return new Runtime(instance.exports);
}

async function fetched(address) {
  let answer;
  try {
    answer = await fetch(address);
  } catch (error) {
    const why = error.cause?.message ?? error.message;
    throw new TinyvoxError("TV_ERROR_FILE",
      `${address}: not fetched (${why}); without a server, give load() the bytes of tinyvox.wasm`);
  }
  if (!answer.ok) {
    throw new TinyvoxError("TV_ERROR_FILE", `${address}: the server answered ${answer.status}`);
  }
  return answer.arrayBuffer();
}

async function compiled(bytes, imports) {
  try {
    return await WebAssembly.instantiate(bytes, imports);
  } catch (error) {
    throw new TinyvoxError("TV_ERROR_FORMAT",
      `not a tinyvox.wasm that runs here, which takes WebAssembly with SIMD (${error.message})`);
  }
}

function isBytes(value) {
  return ArrayBuffer.isView(value) || Object.prototype.toString.call(value) === "[object ArrayBuffer]";
}

/** What a value is, for a message: "Int16Array", "Promise", "undefined". */
function kindOf(value) {
  return value?.constructor?.name ?? String(value);
}

/** tinyvox.wasm. One model or many, on one thread. */
export class Runtime {
  #c;
  #result; // where calls put a pointer

  constructor(exports) {
    this.#c = exports;
    this.#result = this.take(4);
  }

  get version() {
    return this.string(this.#c.tv_version());
  }

  /** Opens the bytes of a .tvx file. */
  open(bytes) {
    if (!isBytes(bytes)) {
      throw new TinyvoxError("TV_ERROR_ARGUMENT",
        `open() takes an ArrayBuffer or a view of one, not ${kindOf(bytes)}`);
    }
    const content = ArrayBuffer.isView(bytes)
      ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength) : new Uint8Array(bytes);
    const at = this.take(Math.max(1, content.length));
    try {
      new Uint8Array(this.#c.memory.buffer).set(content, at);
      return new Model(this, this.#c,
        this.made((result) => this.#c.tv_open_memory(at, content.length, result)));
    } finally {
      this.#c.free(at);
    }
  }

  /** The pointer that a call gives. For the classes of this file. */
  made(call) {
    this.check(call(this.#result));
    return new DataView(this.#c.memory.buffer).getUint32(this.#result, true);
  }

  check(code) {
    if (code === 0) return;
    const name = this.string(this.#c.tv_error_name(code));
    // Which function of the C API said so means nothing here.
    const message = this.string(this.#c.tv_error_message()).replace(/^tv_\w+: /, "");
    throw new TinyvoxError(name, message);
  }

  take(size) {
    const at = size < ADDRESSES ? this.#c.malloc(size) : 0;
    if (at === 0) throw new TinyvoxError("TV_ERROR_MEMORY", `no memory for ${size} bytes`);
    return at;
  }

  string(at) {
    const bytes = new Uint8Array(this.#c.memory.buffer);
    return new TextDecoder().decode(bytes.subarray(at, bytes.indexOf(0, at)));
  }
}

/** A model. Close it when it is no longer needed: nothing else frees its memory. */
export class Model {
  #runtime;
  #c;
  #at;

  constructor(runtime, exports, at) {
    this.#runtime = runtime;
    this.#c = exports;
    this.#at = at;
    /** Samples a second of the audio that streams take; 0 without a speech card. */
    this.sampleRate = this.#c.tv_sample_rate(at);
    /** Seconds from one frame of the output to the next. */
    this.frameSeconds = this.#c.tv_frame_seconds(at);
    /** The instruction set in use. */
    this.isa = runtime.string(this.#c.tv_isa(at));
  }

  stream() {
    if (this.#at === 0) throw new TinyvoxError("TV_ERROR_ARGUMENT", "the model is closed");
    return new Stream(this.#runtime, this.#c,
      this.#runtime.made((result) => this.#c.tv_stream_open(this.#at, result)));
  }

  close() {
    this.#c.tv_close(this.#at);
    this.#at = 0;
  }
}

/** One utterance at a time: samples in, text out. Outlives its model. */
export class Stream {
  #runtime;
  #c;
  #at;
  #piece;

  constructor(runtime, exports, at) {
    this.#runtime = runtime;
    this.#c = exports;
    this.#at = at;
    this.#piece = runtime.take(4 * PIECE);
  }

  /** Takes any number of samples at the model's rate, full scale at -1 and 1. */
  feed(samples) {
    this.#open();
    if (kindOf(samples) !== "Float32Array") {
      throw new TinyvoxError("TV_ERROR_ARGUMENT", `feed() takes a Float32Array with full scale at -1 `
        + `and 1, not ${kindOf(samples)}; of an Int16Array: Float32Array.from(it, (s) => s / 32768)`);
    }
    for (let start = 0; start < samples.length; start += PIECE) {
      const some = samples.subarray(start, start + PIECE);
      new Float32Array(this.#c.memory.buffer, this.#piece, some.length).set(some);
      this.#runtime.check(this.#c.tv_stream_feed_float(this.#at, this.#piece, some.length));
    }
  }

  /** Ends the utterance, and gives its text. */
  finish() {
    this.#open();
    this.#runtime.check(this.#c.tv_stream_finish(this.#at));
    return this.text;
  }

  /** The text so far. */
  get text() {
    this.#open();
    return this.#runtime.string(this.#c.tv_stream_text(this.#at));
  }

  /** Starts the next utterance. */
  reset() {
    this.#open();
    this.#runtime.check(this.#c.tv_stream_reset(this.#at));
  }

  close() {
    this.#c.tv_stream_close(this.#at);
    this.#c.free(this.#piece);
    this.#at = this.#piece = 0;
  }

  // Address 0 is memory like any other: what is written there lies over the library's own.
  #open() {
    if (this.#at === 0) throw new TinyvoxError("TV_ERROR_ARGUMENT", "the stream is closed");
  }
}
