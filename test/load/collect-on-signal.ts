// Loaded before the proxy under test: collects garbage when it is told to, so that memory that is held is told from memory that is free.
process.on("SIGUSR2", () => {
  const collect: unknown = Reflect.get(globalThis, "gc"); // there by --expose-gc
  if (typeof collect === "function") collect();
});
