// The page: shows what the worker hears. models.json, which build.py writes, lists the models.
import { Microphone } from "./lib/tinyvox.js";

const $ = (id) => document.getElementById(id);
const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
const whole = new Intl.NumberFormat("en");
let model = null;
let microphone = null;

function say(message, error = false) {
  $("status").textContent = message;
  $("status").classList.toggle("error", error);
}

function enable(ready) {
  $("listen").disabled = $("audio").disabled = !ready;
}

// Models.

async function open(name, bytes) {
  await stop();
  enable(false);
  say(`Opening ${name}…`);
  $("text").textContent = "";
  worker.postMessage({ open: await bytes });
}

async function fetched(file) {
  const answer = await fetch(`models/${file}`);
  if (!answer.ok) throw new Error(`${file}: the server answered ${answer.status}`);
  return answer.arrayBuffer();
}

function openOwn(file) {
  if (!file) return;
  $("model").selectedIndex = -1;
  $("about").textContent = file.name;
  run(() => open(file.name, file.arrayBuffer()));
}

function opened(facts) {
  model = facts;
  $("bytes").textContent = `${whole.format(facts.bytes)} bytes`;
  $("isa").textContent = facts.isa;
  $("milliseconds").textContent = $("share").textContent = "–";
  enable(true);
  say(`Ready. The model hears ${whole.format(facts.sampleRate)} samples a second.`);
}

// Speech.

async function start() {
  const { port1, port2 } = new MessageChannel();
  say("Asking for the microphone…");
  worker.postMessage({ listen: port2 }, [port2]);
  microphone = await Microphone.open(model.sampleRate, port1);
  $("listen").textContent = "Stop listening";
  $("audio").disabled = true;
  say("Listening…");
}

async function stop() {
  if (!microphone) return;
  const closing = microphone;
  microphone = null;
  await closing.close();
  $("listen").textContent = "Start listening";
  $("audio").disabled = false;
}

async function hear(file) {
  if (!file) return;
  const context = new OfflineAudioContext(1, 1, model.sampleRate);
  say(`Hearing ${file.name}…`);
  const audio = await context.decodeAudioData(await file.arrayBuffer());
  worker.postMessage({ samples: audio.getChannelData(0) });
}

function heard({ text, seconds, milliseconds, finished }) {
  $("text").textContent = text;
  if (seconds > 0) {
    const share = milliseconds / 1000 / seconds;
    $("milliseconds").textContent = `${(share * model.frameSeconds * 1000).toFixed(3)} ms`;
    $("share").textContent = `${(100 * share).toFixed(2)}%`;
  }
  if (finished) say(`${seconds.toFixed(1)} seconds heard.`);
}

// Events.

async function run(work) {
  try {
    await work();
  } catch (error) {
    say(error.name === "NotAllowedError" ? "The browser does not allow the microphone."
      : error.name === "NotFoundError" ? "There is no microphone."
      : error.name === "EncodingError" ? "The browser cannot decode this file." : error.message, true);
  }
}

worker.onmessage = ({ data }) => {
  if (data.error) {
    say(data.error, true);
    enable(model !== null);
  } else if (data.model) opened(data.model);
  else heard(data);
};
worker.onerror = (event) => say(event.message ?? "The worker does not start.", true);

$("listen").onclick = () => run(microphone ? stop : start);
$("audio").onchange = () => run(() => hear($("audio").files[0]));
$("own").onchange = () => openOwn($("own").files[0]);
document.ondragover = (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
};
document.ondragleave = (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
};
document.ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  openOwn(event.dataTransfer.files[0]);
};

function list(models) {
  for (const each of models) $("model").add(new Option(each.name, each.file));
  for (const each of models) $("errors").append(measured(each));
  const choose = () => {
    const each = models[$("model").selectedIndex];
    $("about").textContent = each.about;
    run(() => open(each.name, fetched(each.file)));
  };
  $("model").onchange = choose;
  choose();
}

// The part of the table of one model.
function measured({ name, bytes, tests }) {
  const part = document.createElement("tbody");
  const head = document.createElement("th");
  head.colSpan = 2;
  head.scope = "rowgroup";
  head.textContent = `${name}: ${whole.format(bytes)} bytes`;
  part.insertRow().append(head);
  for (const test of tests) {
    const line = part.insertRow();
    line.insertCell().textContent = `${test.name} (${test.utterances} utterances)`;
    line.insertCell().textContent = `${test.measure} ${rate(test)}`;
  }
  return part;
}

function rate({ rate, interval }) {
  const [middle, low, high] = [rate, ...interval].map((share) => (100 * share).toFixed(1));
  return `${middle}% [${low}, ${high}]`;
}

run(async () => list(await (await fetch("models.json")).json()));
