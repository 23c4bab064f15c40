// What tinyvox.wasm calls of the system: an environment, a clock, an end. It opens no files, and prints
// nothing.

/** The imports of tinyvox.wasm. `memory()` gives its memory, once there is one. */
export function systemImports(memory, environment = {}) {
  const entries = Object.entries(environment).map(
    ([name, value]) => new TextEncoder().encode(`${name}=${value}\0`),
  );
  const view = () => new DataView(memory().buffer);
  const bytes = (at, size) => new Uint8Array(memory().buffer, at, size);

  const system = {
    environ_sizes_get(count, size) {
      view().setUint32(count, entries.length, true);
      view().setUint32(size, entries.reduce((sum, entry) => sum + entry.length, 0), true);
      return 0;
    },
    environ_get(pointers, at) {
      for (const [i, entry] of entries.entries()) {
        view().setUint32(pointers + 4 * i, at, true);
        bytes(at, entry.length).set(entry);
        at += entry.length;
      }
      return 0;
    },
    clock_time_get(_clock, _precision, result) {
      view().setBigUint64(result, BigInt(Math.round(performance.now() * 1e6)), true);
      return 0;
    },
    proc_exit(code) {
      throw new Error(`tinyvox.wasm ended with ${code}`);
    },
  };
  return {
    wasi_snapshot_preview1: system,
    env: { emscripten_notify_memory_growth() {} },
  };
}
