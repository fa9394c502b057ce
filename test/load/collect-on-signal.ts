// Loaded before the proxy under test: collects garbage when it is told to, and says what is held then in a file of its runtime directory,
// so that memory that is held is told from memory that is free.
import { renameSync, writeFileSync } from "node:fs";

process.on("SIGUSR2", () => {
  const collect: unknown = Reflect.get(globalThis, "gc"); // there by --expose-gc
  if (typeof collect === "function") collect();
  const path = `${process.env.RUNTIME_DIRECTORY}/memory.json`;
  writeFileSync(`${path}.new`, JSON.stringify(process.memoryUsage()));
  renameSync(`${path}.new`, path);
});
