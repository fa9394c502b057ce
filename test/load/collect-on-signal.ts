// Loaded before the proxy under test. On SIGUSR2 it collects garbage and writes the memory in use to a file
// in the runtime directory, so that garbage is not counted.
import { renameSync, writeFileSync } from "node:fs";

process.on("SIGUSR2", () => {
  const collect: unknown = Reflect.get(globalThis, "gc"); // present with --expose-gc
  if (typeof collect === "function") collect();
  const path = `${process.env.RUNTIME_DIRECTORY}/memory.json`;
  writeFileSync(`${path}.new`, JSON.stringify(process.memoryUsage()));
  renameSync(`${path}.new`, path);
});
