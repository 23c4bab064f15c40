/** The names of the C API's errors. */
export type ErrorCode =
  | "TV_ERROR_ARGUMENT" | "TV_ERROR_FILE" | "TV_ERROR_FORMAT" | "TV_ERROR_MEMORY"
  | "TV_ERROR_ISA" | "TV_ERROR_NO_SPEECH" | "TV_ERROR_FINISHED" | "TV_ERROR_BROKEN"
  | "TV_ERROR_INTERNAL" | "TV_ERROR_BUSY" | "TV_ERROR_LIMIT";

/** What went wrong, in one line. */
export class TinyvoxError extends Error {
  readonly code: ErrorCode;
  constructor(code: ErrorCode, message: string);
}

/**
 * Loads tinyvox.wasm, from beside this module unless `source` is another address, or its bytes.
 * Without a server, as in Node, give the bytes. Throws TinyvoxError if the server does not give it, or
 * if it does not run here.
 */
export function load(source?: URL | string | BufferSource): Promise<Runtime>;

/** tinyvox.wasm. It runs on the thread that loaded it; use a worker to keep a page quick. */
export class Runtime {
  private constructor();
  readonly version: string;
  /** Opens the bytes of a .tvx file. Throws TinyvoxError if they are none, or damaged. */
  open(bytes: BufferSource): Model;
}

/** A model. Close it when it is no longer needed: nothing else frees its memory. */
export class Model {
  private constructor();
  /** Samples a second of the audio that streams take; 0 without a speech card. */
  readonly sampleRate: number;
  /** Seconds from one frame of the output to the next; 0 without a speech card. */
  readonly frameSeconds: number;
  /** The instruction set in use, such as "simd128". */
  readonly isa: string;
  /** Throws TinyvoxError if the model has no speech card. */
  stream(): Stream;
  close(): void;
}

/**
 * One utterance at a time: samples in, text out. Outlives its model. After `close`, every call but
 * `close` throws TinyvoxError.
 */
export class Stream {
  private constructor();
  /** Takes any number of samples at the model's rate, full scale at -1 and 1. */
  feed(samples: Float32Array): void;
  /** Ends the utterance, and gives its text. */
  finish(): string;
  /** The text so far. */
  readonly text: string;
  /** Starts the next utterance. */
  reset(): void;
  close(): void;
}

/** The mean of channels of one length, such as those of an AudioBuffer. */
export function mixed(channels: Float32Array[]): Float32Array;

/** Converts samples from one rate to another while they come. */
export class Resampler {
  constructor(from: number, to: number);
  /** The samples that are ready after these. */
  push(samples: Float32Array): Float32Array;
  /** The samples that are left when no more come. */
  finish(): Float32Array;
}

/** The microphone, in one channel at the rate of a model. */
export class Microphone {
  private constructor();
  /**
   * Asks the user, and listens. Pieces of 20 milliseconds arrive at the other end of `port`, as
   * Float32Array; after `close`, null. Rejects as navigator.mediaDevices.getUserMedia does.
   */
  static open(sampleRate: number, port: MessagePort): Promise<Microphone>;
  /** Samples a second of the device. */
  readonly deviceRate: number;
  /** Ends listening: what was heard is sent to the port, then null. */
  close(): Promise<void>;
}
