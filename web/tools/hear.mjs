// Opens the page in Chromium with a WAV file as the microphone, and prints what it shows, as JSON.
//
//   node hear.mjs SITE WAV SECONDS [--own MODEL] [--pictures FOLDER]
//
// SECONDS is how long to listen. With --own the page opens this file instead of its first model.
import { mkdirSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Browser, serve } from "./chromium.mjs";

const { values: options, positionals: [site, wav, seconds] } = parseArgs({
  allowPositionals: true,
  options: { own: { type: "string" }, pictures: { type: "string" } },
});
const text = (id) => `document.getElementById(${JSON.stringify(id)}).textContent`;
const says = (start) => `${text("status")}.startsWith(${JSON.stringify(start)})`;

/** What is shown of the last utterance. */
async function shown(browser) {
  const facts = {};
  for (const id of ["text", "status", "bytes", "milliseconds", "share", "isa"])
    facts[id] = await browser.value(text(id));
  return facts;
}

async function listen(browser) {
  await browser.value('document.getElementById("listen").click()');
  await browser.until(says("Listening"));
  await new Promise((done) => setTimeout(done, 1000 * Number(seconds)));
  const before = await browser.value(text("text"));
  await browser.value('document.getElementById("listen").click()');
  await browser.until(`${text("status")}.endsWith("heard.")`);
  return { ...(await shown(browser)), before };
}

async function hear(browser) {
  await browser.choose("#audio", [wav]);
  await browser.until(`${text("status")}.endsWith("heard.")`);
  return shown(browser);
}

async function openOwn(browser) {
  await browser.choose("#own", [options.own]);
  await browser.until(`${says("Ready")} || document.querySelector("#status.error") !== null`);
}

async function pictures(browser, folder) {
  mkdirSync(folder, { recursive: true });
  for (const width of [1280, 390])
    for (const scheme of ["light", "dark"])
      writeFileSync(`${folder}/${width}-${scheme}.png`, await browser.picture(width, scheme));
}

const server = await serve(site);
const browser = await Browser.open({ wav });
try {
  await browser.go(server.address);
  await browser.until(says("Ready"));
  if (options.own) await openOwn(browser);
  const ready = await browser.value(`!document.getElementById("listen").disabled`);
  const found = { opened: await browser.value(text("status")) };
  if (ready && !options.own) found.microphone = await listen(browser);
  if (ready) found.file = await hear(browser);
  if (options.pictures) await pictures(browser, options.pictures);
  found.elsewhere = browser.requests.filter((each) =>
    !each.startsWith(server.address) && !each.startsWith("data:") && each !== "about:blank");
  found.complaints = browser.complaints;
  console.log(JSON.stringify(found, null, 1));
} finally {
  await browser.close();
  server.close();
}
