// Recognizes on a thread of its own. The page sends { open: bytes }, { listen: port } or
// { samples }; the answers are { model } or { refused } to each open, in order, { text, ... } and { error }.
import { load } from "./lib/tinyvox.js";

const loading = load();
loading.catch(() => {}); // said when a model is opened
let model = null;
let stream = null;
let port = null; // of the microphone
let heard = null; // seconds of audio, milliseconds of work

onmessage = ({ data }) => {
  answer(async () => {
    if (data.open) return tryToOpen(data.open);
    if (data.listen) {
      begin();
      port = data.listen;
      port.onmessage = ({ data: samples }) => answer(() => take(samples));
      return;
    }
    begin();
    take(data.samples);
    take(null);
  });
};

async function answer(work) {
  try {
    await work();
  } catch (error) {
    postMessage({ error: error.message });
  }
}

async function tryToOpen(bytes) {
  try {
    open(await loading, bytes);
  } catch (error) {
    postMessage({ refused: error.message });
  }
}

function open(runtime, bytes) {
  const opened = runtime.open(bytes);
  let listening;
  try {
    listening = opened.stream(); // a model without a speech card fails here
  } catch (error) {
    opened.close();
    throw error;
  }
  port?.close();
  stream?.close();
  model?.close();
  [model, stream] = [opened, listening];
  const { sampleRate, frameSeconds, isa } = model;
  postMessage({ model: { bytes: bytes.byteLength, sampleRate, frameSeconds, isa } });
}

function begin() {
  stream.reset();
  heard = { seconds: 0, milliseconds: 0 };
}

// Null ends the utterance.
function take(samples) {
  const start = performance.now();
  if (samples) stream.feed(samples);
  else stream.finish();
  heard.milliseconds += performance.now() - start;
  heard.seconds += (samples?.length ?? 0) / model.sampleRate;
  postMessage({ text: stream.text, ...heard, finished: samples === null });
}
