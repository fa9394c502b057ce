// Runs inside one network namespace for test/netns/world.ts. Reads commands from standard input, one JSON
// object per line.
import { createSocket } from "node:dgram";
import { connect, createServer, isIPv6, type Socket } from "node:net";
import { createInterface } from "node:readline";

export type Order =
  | {
      readonly do: "listen";
      readonly protocol: "tcp" | "udp";
      readonly address: string;
      readonly port: number;
      readonly banner: string;
    }
  | {
      readonly do: "ask";
      readonly protocol: "tcp" | "udp";
      readonly address: string;
      readonly port: number;
      readonly patient?: boolean;
      /** The source address and port, with TCP. By default the kernel chooses. */
      readonly from?: From;
    }
  /** Opens a connection and keeps it. `talk` then sends something on it. */
  | { readonly do: "open"; readonly address: string; readonly port: number }
  | { readonly do: "talk" }
  /** Sends requests until `stop`. */
  | { readonly do: "load"; readonly address: string; readonly port: number }
  | { readonly do: "stop" };

type Listen = Extract<Order, { readonly do: "listen" }>;

/** The banner of a listener, or `nothing (why)`. */
export type Answer = string;

const patienceMs = 700;
/** A SYN is retransmitted after a second. IPv6 reacts to the rejection of the second one. */
const longPatienceMs = 1_500;
/** Long enough for a retransmission on a busy machine: only requests without any answer count as failures. */
const loadPatienceMs = 5_000;

// Run as another user, if one is named.
if (process.argv[2] !== undefined) process.setuid?.(Number(process.argv[2]));
let held: Socket | undefined;
let stopped = false;

for await (const line of createInterface({ input: process.stdin })) {
  const { id, ...order } = JSON.parse(line) as Order & { readonly id: number }; // world.ts wrote it
  obey(order).then((answer) => process.stdout.write(`${JSON.stringify({ id, answer })}\n`));
}
process.exit(0);

function obey(order: Order): Promise<Answer> {
  switch (order.do) {
    case "listen":
      return order.protocol === "tcp" ? listenTcp(order) : listenUdp(order);
    case "ask":
      return order.protocol === "tcp"
        ? askTcp(order.address, order.port, order.patient ? longPatienceMs : patienceMs, order.from)
        : askUdp(order.address, order.port);
    case "open":
      return open(order.address, order.port);
    case "talk":
      return talk();
    case "load":
      return load(order.address, order.port);
    case "stop":
      stopped = true;
      return Promise.resolve("stopped");
  }
}

/** Answers each line with the banner. */
function listenTcp({ address, port, banner }: Listen): Promise<Answer> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", () => socket.write(`${banner}\n`));
  });
  return new Promise((resolve) => server.listen(port, address, () => resolve("listening")));
}

function listenUdp({ address, port, banner }: Listen): Promise<Answer> {
  const socket = createSocket(isIPv6(address) ? "udp6" : "udp4");
  socket.on("message", (_, from) => socket.send(banner, from.port, from.address));
  return new Promise((resolve) => socket.bind(port, address, () => resolve("listening")));
}

type From = { readonly address: string; readonly port: number };

async function askTcp(address: string, port: number, withinMs: number, from?: From): Promise<Answer> {
  const local = from && { localAddress: from.address, localPort: from.port };
  const socket = connect({ host: address, port, ...local });
  const answer = await say(socket, true, withinMs);
  // A later request from the same port must not wait for this connection to close.
  if (from === undefined || socket.connecting) socket.destroy();
  else socket.resetAndDestroy();
  return answer;
}

/** Sends something on the connection and waits for the banner. */
function say(socket: Socket, fresh: boolean, withinMs = patienceMs): Promise<Answer> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve("nothing (timeout)"), withinMs);
    const end = (answer: Answer) => {
      clearTimeout(timer);
      resolve(answer);
    };
    socket.once("error", (error: NodeJS.ErrnoException) => end(`nothing (${error.code})`));
    socket.once("close", () => end("nothing (closed)"));
    socket.once("data", (data) => end(data.toString().trim()));
    if (fresh) socket.once("connect", () => socket.write("?\n"));
    else socket.write("?\n");
  });
}

function askUdp(address: string, port: number): Promise<Answer> {
  const socket = createSocket(isIPv6(address) ? "udp6" : "udp4");
  return new Promise((resolve) => {
    const end = (answer: Answer) => {
      clearTimeout(timer);
      socket.close();
      resolve(answer);
    };
    const timer = setTimeout(() => end("nothing (timeout)"), patienceMs);
    socket.once("error", (error: NodeJS.ErrnoException) => end(`nothing (${error.code})`));
    socket.once("message", (data) => end(data.toString()));
    socket.connect(port, address, () => socket.send("?"));
  });
}

async function open(address: string, port: number): Promise<Answer> {
  held?.destroy();
  held = connect({ host: address, port });
  return say(held, true);
}

function talk(): Promise<Answer> {
  return held === undefined ? Promise.resolve("nothing (not open)") : say(held, false);
}

/** Each request on a new connection, four at a time. Returns the number of each answer, as JSON. */
async function load(address: string, port: number): Promise<Answer> {
  const answers = new Map<Answer, number>();
  const worker = async () => {
    while (!stopped) {
      const began = performance.now();
      const answer = await askTcp(address, port, loadPatienceMs);
      // TCP waits a second before it retransmits a lost packet; so may a busy machine before it runs a
      // process.
      const late = performance.now() - began > 900 ? " late" : "";
      answers.set(answer + late, (answers.get(answer + late) ?? 0) + 1);
      // Leave the CPU to the applies: the test is that no request is lost, not how many there are.
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  stopped = false;
  await Promise.all([worker(), worker(), worker(), worker()]);
  return JSON.stringify(Object.fromEntries(answers));
}
