// Runs a WebAssembly program that prints: run.mjs PROGRAM.wasm. Ends with its exit status.
import { readFileSync, writeSync } from "node:fs";
import { systemImports } from "../lib/system.js";

class Exit extends Error {}

let memory;
const imports = systemImports(() => memory);
Object.assign(imports.wasi_snapshot_preview1, {
  args_sizes_get(count, size) {
    new Uint32Array(memory.buffer, count, 1)[0] = new Uint32Array(memory.buffer, size, 1)[0] = 0;
    return 0;
  },
  args_get: () => 0,
  fd_write(file, pieces, count, written) {
    const all = new Uint32Array(memory.buffer, pieces, 2 * count);
    let size = 0;
    for (let i = 0; i < count; ++i)
      size += writeSync(file, new Uint8Array(memory.buffer, all[2 * i], all[2 * i + 1]));
    new Uint32Array(memory.buffer, written, 1)[0] = size;
    return 0;
  },
  fd_close: () => 0,
  fd_read: () => 8, // no such file
  fd_seek: () => 8,
  proc_exit(code) {
    process.exitCode = code;
    throw new Exit();
  },
});
const { instance } = await WebAssembly.instantiate(readFileSync(process.argv[2]), imports);
memory = instance.exports.memory;
try {
  instance.exports._start();
} catch (error) {
  if (!(error instanceof Exit)) throw error;
}
