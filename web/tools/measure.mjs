// Times recognition in Chromium, in one thread: measure.mjs SITE MODEL WAV ROUNDS.
// WAV has a plain header, 16 bits, one channel, and the model's rate.
// Prints JSON: the instruction set, the text, and the seconds of each round, in pieces of 20 ms.
import { Browser, serve } from "./chromium.mjs";

const [site, model, wav, rounds] = process.argv.slice(2);

// Runs on the page, whose clock is good to 0.1 ms.
async function measure(rounds) {
  const { load } = await import("./lib/tinyvox.js");
  const bytes = async (file) => (await fetch(file)).arrayBuffer();
  const model = (await load()).open(await bytes("measured.tvx"));
  // Not decodeAudioData, which scales samples above 0 by 1 / 32767.
  const pcm = new Int16Array((await bytes("measured.wav")).slice(44));
  const samples = Float32Array.from(pcm, (sample) => sample / 32768);
  const stream = model.stream(), piece = model.sampleRate / 50, seconds = [];
  let text;
  for (let round = 0; round < rounds; ++round) {
    stream.reset();
    const start = performance.now();
    for (let i = 0; i < samples.length; i += piece) stream.feed(samples.subarray(i, i + piece));
    text = stream.finish();
    seconds.push((performance.now() - start) / 1000);
  }
  return { isa: model.isa, text, audio: samples.length / model.sampleRate, seconds };
}

const server = await serve(site, { "measured.tvx": model, "measured.wav": wav });
const browser = await Browser.open({});
try {
  await browser.go(server.address);
  await browser.until('document.getElementById("status").textContent.startsWith("Ready")');
  console.log(JSON.stringify(await browser.value(`(${measure})(${Number(rounds)})`)));
} finally {
  await browser.close();
  server.close();
}
