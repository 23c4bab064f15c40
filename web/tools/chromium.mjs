// What tests and benchmarks need of a browser: a server of one folder, and Chromium through its
// DevTools protocol, over a pipe. Needs Node alone.
import { spawn } from "node:child_process";
import { createReadStream, mkdtempSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";

const TYPES = {
  ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".json": "application/json",
  ".wasm": "application/wasm",
};

/** Serves a folder, and other files by their names, on a free port of this machine. */
export async function serve(folder, others = {}) {
  const server = createServer((request, response) => {
    const path = normalize(new URL(request.url, "http://localhost").pathname);
    const file = others[path.slice(1)] ?? join(folder, path.endsWith("/") ? `${path}index.html` : path);
    if (!statSync(file, { throwIfNoEntry: false })?.isFile()) return response.writeHead(404).end();
    const type = TYPES[extname(file)] ?? "application/octet-stream";
    response.writeHead(200, { "Content-Type": type });
    createReadStream(file).pipe(response);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return {
    address: `http://127.0.0.1:${server.address().port}/`,
    close: () => { server.closeAllConnections(); server.close(); },
  };
}

/** Chromium with one page. */
export class Browser {
  #process;
  #profile = mkdtempSync(join(tmpdir(), "tinyvox-chromium-"));
  #waiting = new Map();
  #last = 0;
  #session;
  requests = []; // addresses that the page asked for
  complaints = []; // what the page wrote to the console as errors, and its exceptions

  /** `wav` becomes the microphone; without it, there is a silent one. */
  static async open({ program = "chromium", wav } = {}) {
    const browser = new Browser();
    await browser.#start(program, wav);
    return browser;
  }

  async #start(program, wav) {
    const flags = [
      "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run",
      "--disable-background-networking", "--autoplay-policy=no-user-gesture-required",
      "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
      `--user-data-dir=${this.#profile}`,
      ...(wav ? [`--use-file-for-fake-audio-capture=${wav}%noloop`] : []),
    ];
    this.#process = spawn(program, [...flags, "about:blank"],
      { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    this.#process.on("exit", () => this.#fail(new Error(`${program} ended`)));
    this.#process.on("error", (error) => this.#fail(error));
    this.#listen(this.#process.stdio[4]);
    const { targetInfos } = await this.#send("Target.getTargets");
    const { targetId } = targetInfos.find(({ type }) => type === "page");
    const { sessionId } = await this.#send("Target.attachToTarget", { targetId, flatten: true });
    this.#session = sessionId;
    for (const domain of ["Page", "Runtime", "Network", "Log"]) await this.#send(`${domain}.enable`);
  }

  #listen(pipe) {
    let rest = "";
    pipe.setEncoding("utf8");
    pipe.on("data", (data) => {
      const messages = (rest + data).split("\0");
      rest = messages.pop();
      for (const message of messages) this.#take(JSON.parse(message));
    });
  }

  #take({ id, result, error, method, params }) {
    if (id) {
      const { done, fail } = this.#waiting.get(id);
      this.#waiting.delete(id);
      return error ? fail(new Error(error.message)) : done(result);
    }
    if (method === "Network.requestWillBeSent") this.requests.push(params.request.url);
    if (method === "Runtime.exceptionThrown")
      this.complaints.push(params.exceptionDetails.exception?.description ?? "exception");
    if (method === "Log.entryAdded" && params.entry.level === "error")
      this.complaints.push(`${params.entry.text} ${params.entry.url ?? ""}`);
    if (method === "Runtime.consoleAPICalled" && params.type === "error")
      this.complaints.push(params.args.map((each) => each.value ?? each.description).join(" "));
  }

  #fail(error) {
    for (const { fail } of this.#waiting.values()) fail(error);
    this.#waiting.clear();
  }

  #send(method, params = {}) {
    const id = ++this.#last;
    const sessionId = this.#session;
    this.#process.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return new Promise((done, fail) => this.#waiting.set(id, { done, fail }));
  }

  async go(address) {
    await this.#send("Page.navigate", { url: address });
    await this.until(`document.readyState === "complete" && location.href === ${JSON.stringify(address)}`);
  }

  /** The value of an expression on the page, which may be a promise. */
  async value(expression) {
    const { result, exceptionDetails } = await this.#send("Runtime.evaluate",
      { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails)
      throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  /** Waits until an expression is true; gives its value. */
  async until(expression, seconds = 60) {
    const end = performance.now() + 1000 * seconds;
    for (;;) {
      const found = await this.value(expression);
      if (found) return found;
      if (performance.now() > end) throw new Error(`not within ${seconds} s: ${expression}`);
      await new Promise((done) => setTimeout(done, 50));
    }
  }

  /** Puts files of this machine into an <input type=file>. */
  async choose(selector, files) {
    const { root } = await this.#send("DOM.getDocument");
    const { nodeId } = await this.#send("DOM.querySelector", { nodeId: root.nodeId, selector });
    await this.#send("DOM.setFileInputFiles", { nodeId, files });
  }

  /** A PNG of the whole page on a screen of this width, in light or dark. */
  async picture(width, scheme = "light") {
    await this.#send("Emulation.setEmulatedMedia",
      { features: [{ name: "prefers-color-scheme", value: scheme }] });
    await this.#send("Emulation.setDeviceMetricsOverride",
      { width, height: 900, deviceScaleFactor: 1, mobile: width < 600 });
    const height = await this.value("document.documentElement.scrollHeight");
    const { data } = await this.#send("Page.captureScreenshot",
      { captureBeyondViewport: true, clip: { x: 0, y: 0, width, height, scale: 1 } });
    return Buffer.from(data, "base64");
  }

  async close() {
    const ended = new Promise((done) => this.#process.on("exit", done));
    await this.#send("Browser.close").catch(() => {});
    await ended;
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
}
