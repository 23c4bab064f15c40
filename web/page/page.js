// The page: shows what the worker hears. models.json, which build.py writes, lists the models.
import { Microphone, mixed } from "./lib/tinyvox.js";

const $ = (id) => document.getElementById(id);
const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
const whole = new Intl.NumberFormat("en");
const offers = []; // what can be chosen: { name, about, language, read }
const sent = []; // offers that the worker has yet to open, in order
let wanted = null; // the offer that was chosen last
let used = null; // the offer that the worker has open
let model = null; // what the worker says of it
let microphone = null; // a promise, from the moment it is asked for

function say(message, error = false) {
  $("status").textContent = message;
  $("status").classList.toggle("error", error);
}

function enable(ready) {
  $("listen").disabled = $("audio").disabled = !ready;
}

// Models.

/** Opens what is offered, unless something else is chosen meanwhile. */
async function choose(offer) {
  wanted = offer;
  await stop();
  if (offer !== wanted) return;
  enable(false);
  say(`Opening ${offer.name}…`);
  try {
    const bytes = await offer.read();
    if (offer !== wanted) return;
    sent.push(offer);
    worker.postMessage({ open: bytes });
  } catch (error) {
    refused(offer, explained(error));
  }
}

async function fetched(file) {
  const answer = await fetch(`models/${file}`);
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  return answer.arrayBuffer();
}

function own(file) {
  return { name: file.name, about: "Your own file.", language: "", read: () => file.arrayBuffer() };
}

function opened(offer, facts) {
  used = offer;
  model = facts;
  const rate = whole.format(facts.sampleRate);
  if (offer === wanted) show(`Ready. ${offer.name} hears ${rate} samples a second.`);
}

/** The model that was in use stays in use. */
function refused(offer, message) {
  if (offer !== wanted) return;
  wanted = used;
  const stays = used ? ` ${used.name} stays open.` : "";
  show(`${offer.name}: ${message.replace(/\.$/, "")}.${stays}`, true);
}

/** Shows the model in use, and a message. */
function show(message, error = false) {
  say(message, error);
  $("own").value = "";
  enable(used !== null);
  if (!used) return;
  if (!offers.includes(used)) add(used);
  $("model").selectedIndex = offers.indexOf(used);
  $("about").textContent = used.about;
  $("text").lang = used.language;
  clear();
  $("bytes").textContent = `${whole.format(model.bytes)} bytes`;
  $("isa").textContent = model.isa;
}

function clear() {
  $("text").textContent = "";
  $("milliseconds").textContent = $("share").textContent = "–";
}

// Speech.

async function start() {
  const { port1, port2 } = new MessageChannel();
  say("Asking for the microphone…");
  enable(false);
  clear();
  worker.postMessage({ listen: port2 }, [port2]);
  microphone = Microphone.open(model.sampleRate, port1);
  try {
    await microphone;
  } catch (error) {
    microphone = null;
    enable(true);
    throw error;
  }
  $("listen").disabled = false;
  $("listen").textContent = "Stop listening";
  say("Listening…");
}

async function stop() {
  const closing = await microphone?.catch(() => null);
  if (!closing) return;
  microphone = null;
  $("listen").textContent = "Start listening";
  $("audio").disabled = false;
  await closing.close();
}

async function hear(file) {
  if (!file) return;
  if (!model) throw new Error("Choose a model first.");
  await stop();
  clear();
  say(`Hearing ${file.name}…`);
  try {
    const context = new OfflineAudioContext(1, 1, model.sampleRate);
    const audio = await context.decodeAudioData(await file.arrayBuffer());
    const channels = Array.from({ length: audio.numberOfChannels }, (_, i) => audio.getChannelData(i));
    worker.postMessage({ samples: mixed(channels) });
  } catch (error) {
    throw new Error(`${file.name}: ${explained(error)}`);
  }
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

function explained(error) {
  return {
    NotAllowedError: "the browser does not allow the microphone",
    NotFoundError: "there is no microphone",
    EncodingError: "the browser finds no audio in this file that it can decode",
    NotReadableError: "the browser cannot read it; it may be too large",
  }[error.name] ?? error.message;
}

async function run(work) {
  try {
    await work();
  } catch (error) {
    say(explained(error), true);
  }
}

worker.onmessage = ({ data }) => {
  if (data.model) opened(sent.shift(), data.model);
  else if (data.refused) refused(sent.shift(), data.refused);
  else if (data.error) say(data.error, true);
  else heard(data);
};
worker.onerror = (event) => say(event.message ?? "The worker does not start.", true);

$("listen").onclick = () => run(microphone ? stop : start);
$("audio").onchange = () => run(() => hear($("audio").files[0]));
$("own").onchange = () => take($("own").files[0]);
$("model").onchange = () => choose(offers[$("model").selectedIndex]);
// The same file may be chosen again.
for (const id of ["audio", "own"]) $(id).onclick = () => ($(id).value = "");
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
  take(event.dataTransfer.files[0]);
};

/** A file that was dropped: audio is heard, anything else opened. */
function take(file) {
  if (!file) return;
  if (/^(audio|video)\//.test(file.type)) run(() => hear(file));
  else choose(own(file));
}

function add(offer) {
  offers.push(offer);
  $("model").add(new Option(offer.name));
}

function list(models) {
  for (const { file, ...each } of models) add({ ...each, read: () => fetched(file) });
  for (const each of models) $("errors").append(measured(each));
  choose(offers[0]);
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
