// Runs inside one network namespace, for test/netns/world.ts: listens and asks as it is told, one JSON object a line.
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
      /** Where it asks from, with TCP; otherwise the kernel chooses. */
      readonly from?: From;
    }
  /** Opens a connection and keeps it; later `talk` says something on it. */
  | { readonly do: "open"; readonly address: string; readonly port: number }
  | { readonly do: "talk" }
  /** Asks over and over until `stop`. */
  | { readonly do: "load"; readonly address: string; readonly port: number }
  | { readonly do: "stop" };

type Listen = Extract<Order, { readonly do: "listen" }>;

/** What a listener says, or `nothing (why)`. */
export type Answer = string;

const patienceMs = 700;
/** A SYN is sent again after a second; IPv6 heeds the refusal of the second one. */
const longPatienceMs = 1_500;
/** Long enough for a packet that must be sent again on a busy machine: what is counted is what gets no answer at all. */
const loadPatienceMs = 5_000;

// As another user, where one is named.
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
  // Who asks from the same port again must not wait for the former connection's end.
  if (from === undefined || socket.connecting) socket.destroy();
  else socket.resetAndDestroy();
  return answer;
}

/** Says something on the connection and waits for the banner. */
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

/** Each time on a new connection, in four lanes; the answer is how often which answer came, as JSON. */
async function load(address: string, port: number): Promise<Answer> {
  const answers = new Map<Answer, number>();
  const lane = async () => {
    while (!stopped) {
      const began = performance.now();
      const answer = await askTcp(address, port, loadPatienceMs);
      // A second is what TCP waits before it sends a lost packet again, or a busy machine before it runs a process.
      const late = performance.now() - began > 900 ? " late" : "";
      answers.set(answer + late, (answers.get(answer + late) ?? 0) + 1);
      // The machine is for the applies; what counts is that none is lost, not how many there are.
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  stopped = false;
  await Promise.all([lane(), lane(), lane(), lane()]);
  return JSON.stringify(Object.fromEntries(answers));
}
