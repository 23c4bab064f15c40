// Opens the page in Chromium, does what hasty people do, and prints what it shows after each, as JSON.
//
//   node misuse.mjs SITE FILE...
//
// Each FILE is dropped on the page. Then two models are chosen at once, and listening is started twice.
import { basename } from "node:path";
import { Browser, serve } from "./chromium.mjs";

const [site, ...files] = process.argv.slice(2);

// Runs on the page.
function shown() {
  const facts = {};
  for (const id of ["text", "status", "about", "bytes"]) facts[id] = document.getElementById(id).textContent;
  const choice = document.getElementById("model");
  const listen = document.getElementById("listen");
  const chosen = choice.options[choice.selectedIndex]?.textContent;
  return { ...facts, chosen, ready: !listen.disabled, listen: listen.textContent };
}

function drop() {
  const transfer = new DataTransfer();
  transfer.items.add(document.getElementById("given").files[0]);
  document.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, cancelable: true }));
}

function choose(index) {
  const choice = document.getElementById("model");
  choice.selectedIndex = index;
  choice.dispatchEvent(new Event("change"));
}

/** Waits until the page is at rest. */
async function settled(browser) {
  await browser.until(`!/^(Opening|Hearing|Asking)/.test(document.getElementById("status").textContent)`);
  return browser.value(`(${shown})()`);
}

const server = await serve(site);
const browser = await Browser.open({});
const found = { files: {} };
try {
  await browser.go(server.address);
  await browser.until('document.getElementById("status").textContent.startsWith("Ready")');
  await browser.value(`document.body.insertAdjacentHTML("beforeend", '<input type="file" id="given">')`);
  for (const file of files) {
    await browser.choose("#given", [file]);
    await browser.value(`(${drop})()`);
    found.files[basename(file)] = await settled(browser);
  }
  await browser.value(`(${choose})(2); (${choose})(1)`); // the first is the larger, and comes later
  found.hasty = await settled(browser);
  const click = 'document.getElementById("listen").click()';
  await browser.value(`${click}; ${click}`);
  await browser.until('document.getElementById("status").textContent === "Listening…"');
  await browser.value(click);
  await browser.until('document.getElementById("status").textContent.endsWith("heard.")');
  found.stopped = await browser.value(`(${shown})()`);
  found.complaints = browser.complaints;
  console.log(JSON.stringify(found, null, 1));
} finally {
  await browser.close();
  server.close();
}
