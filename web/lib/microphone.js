// The microphone, in one channel at the rate of a model.

// Models hear what they were trained on, which no browser has cleaned.
const RAW = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

export class Microphone {
  #context;
  #node;
  #source;

  static async open(sampleRate, port) {
    const microphone = new Microphone();
    try {
      await microphone.#open(sampleRate, port);
    } catch (error) {
      await microphone.#release();
      throw error;
    }
    return microphone;
  }

  async #open(sampleRate, port) {
    this.#source = await navigator.mediaDevices.getUserMedia({ audio: RAW });
    this.#context = new AudioContext();
    this.deviceRate = this.#context.sampleRate;
    await this.#context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
    this.#node = new AudioWorkletNode(this.#context, "tinyvox-microphone", {
      numberOfOutputs: 0,
      processorOptions: { sampleRate },
    });
    this.#node.port.postMessage(port, [port]);
    this.#context.createMediaStreamSource(this.#source).connect(this.#node);
    await this.#context.resume();
  }

  async close() {
    const finished = new Promise((done) => (this.#node.port.onmessage = done));
    this.#node.port.postMessage(null);
    await finished;
    await this.#release();
  }

  async #release() {
    for (const track of this.#source?.getTracks() ?? []) track.stop();
    await this.#context?.close();
  }
}
