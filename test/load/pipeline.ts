import { connect } from "node:net";

/**
 * A client that sends a text repeatedly on many connections, as fast as possible, and reconnects when it is
 * cut off: node pipeline.ts PORT LOCAL_ADDRESS CONNECTIONS SECONDS TEXT. Prints its rates.
 */
const [port, from, connections, seconds, text = ""] = process.argv.slice(2);
const bytes = Buffer.from(text, "latin1");
let answered = 0;
let cut = 0;

function open(): void {
  const socket = connect({ host: "127.0.0.1", port: Number(port), localAddress: from ?? "127.0.0.1" });
  socket.on("data", (chunk: Buffer) => {
    answered += chunk.length;
    // Send the next batch when answers to the last one arrive and the send buffer is empty.
    if (socket.writable && socket.writableLength === 0) socket.write(bytes);
  });
  socket.on("error", () => undefined);
  socket.on("close", () => {
    cut += 1;
    setImmediate(open);
  });
  socket.write(bytes);
}

for (let nth = 0; nth < Number(connections); nth++) open();
setTimeout(() => {
  const each = (value: number) => (value / Number(seconds)).toFixed(value > 1e6 ? 0 : 1);
  process.stdout.write(`${each(answered / 1e6)} MB/s of answers, ${each(cut)} connections cut a second\n`);
  process.exit(0);
}, Number(seconds) * 1_000);
