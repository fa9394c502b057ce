import type { Socket } from "node:net";

/** Reads nothing more from a client's connection until `release`. What it sends meanwhile stays with the kernel, which tells it to wait. */
export function hold(socket: Socket): void {
  // A parser of Node's reads from the kernel by itself, past `pause`, as long as nobody else listens for data.
  if (socket.listenerCount("data", ignore) === 0) socket.on("data", ignore);
  socket.pause();
}

export function release(socket: Socket): void {
  socket.resume();
}

function ignore(): void {}
