import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { requestText } from "../support/raw-http.ts";

/**
 * A client that tries to exhaust the proxy, and reconnects when it is cut off: node hostile.ts --kind KIND
 * --port PORT --from ADDRESS [--addresses N] [--connections N] [--seconds N]. A process of its own, so that
 * its work is not measured too. Prints its rates and ends.
 */
export const kinds = {
  "bodies in chunks of one byte": { text: chunked("GET"), more: "1\r\nx\r\n".repeat(10_000) },
  "token bodies in chunks of one byte": { text: chunked("PUT"), more: "1\r\nx\r\n".repeat(10_000) },
  "plain bodies": {
    text: requestText("GET", "/latest/meta-data/", ["Content-Length: 4000000000"]),
    more: "x".repeat(60_000),
  },
  trailers: { text: `${chunked("PUT")}0\r\n`, more: "a:b\r\n".repeat(10_000) },
  "chunk extensions": { text: `${chunked("PUT")}0`, more: ";a=b".repeat(10_000) },
  headers: {
    text: "",
    more: requestText(
      "GET",
      "/latest/meta-data/",
      Array.from({ length: 1_500 }, () => "a:"),
    ),
  },
  // Node answers both of these by itself, unless prevented.
  expectations: {
    text: "",
    more: requestText("GET", "/latest/meta-data/", ["Expect: something"]).repeat(300),
  },
  "expectations with bodies": {
    text: requestText("GET", "/latest/meta-data/", ["Expect: something", "Transfer-Encoding: chunked"]),
    more: "1\r\nx\r\n".repeat(10_000),
  },
  "requests without Host": { text: "", more: "GET / HTTP/1.1\r\n\r\n".repeat(2_000) },
  "headers without an end": {
    text: "GET / HTTP/1.1\r\nHost: 169.254.169.254\r\n",
    more: "a:\r\n".repeat(20),
  },
  "slow reading": { text: "", more: requestText("GET", "/latest/meta-data/placement/region").repeat(16) },
  "half a request": { text: "GET /latest/meta-data/ HTTP/1.1\r\nHost: 169.254", more: "" },
  "nothing said": { text: "", more: "" },
  "connecting again and again": { text: requestText("GET", "/", ["Connection: close"]), more: "" },
} as const;

export type Kind = keyof typeof kinds;

function chunked(method: "GET" | "PUT"): string {
  return requestText(method, "/latest/api/token", [
    "X-aws-ec2-metadata-token-ttl-seconds: 60",
    "Transfer-Encoding: chunked",
  ]);
}

if (import.meta.main) await main();

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      kind: { type: "string" },
      port: { type: "string" },
      /** The first of `addresses` addresses; the others count up from it. */
      from: { type: "string", default: "127.0.0.1" },
      addresses: { type: "string", default: "1" },
      connections: { type: "string", default: "64" },
      seconds: { type: "string", default: "5" },
    },
  });
  const attack = kinds[values.kind as Kind]; // checked on the next line
  if (attack === undefined) throw new Error(`unknown kind ${values.kind}`);
  const text = Buffer.from(attack.text, "latin1");
  const more = Buffer.from(attack.more, "latin1");
  const slow = values.kind === "slow reading";
  const [a, b, c, d] = values.from.split(".").map(Number);
  const addresses = Array.from({ length: Number(values.addresses) }, (_, nth) => {
    return `${a}.${b}.${(c ?? 0) + Math.floor(nth / 200)}.${(d ?? 0) + (nth % 200)}`;
  });
  let opened = 0;
  let sent = 0;
  let over = false;

  const open = (nth: number): void => {
    const localAddress = addresses[nth % addresses.length] ?? "127.0.0.1";
    const socket = connect({ host: "127.0.0.1", port: Number(values.port), localAddress });
    opened += 1;
    const push = () => {
      while (more.length > 0 && socket.writable && socket.write(more)) sent += more.length;
    };
    socket.on("connect", () => {
      if (text.length > 0) socket.write(text);
      push();
    });
    socket.on("drain", push);
    socket.on("error", () => undefined);
    // A paused client does not notice that it was cut off, which is what a slow reader needs.
    if (slow) socket.pause();
    else socket.resume();
    socket.on("close", () => over || setImmediate(open, nth));
  };
  for (let nth = 0; nth < Number(values.connections); nth++) open(nth);
  await sleep(Number(values.seconds) * 1_000);
  over = true;
  const each = (value: number) => Math.round(value / Number(values.seconds)).toLocaleString("en");
  process.stdout.write(`${each(opened)} connections/s, ${each(sent / 1e3)} kB/s\n`);
  process.exit(0);
}
