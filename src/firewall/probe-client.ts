import { createSocket } from "node:dgram";
import { get, type IncomingMessage } from "node:http";
import { setTimeout as delay } from "node:timers/promises";

/** What the probe does inside its network namespace, where only a process of its own can open sockets. */
export type ProbeOrder =
  /** Makes the kernel look for the owners of these IPv4 addresses. */
  | { readonly do: "arp"; readonly addresses: readonly string[] }
  | {
      readonly do: "get";
      readonly address: string;
      readonly port: number;
      readonly timeoutMs: number;
    };

export type ProbeAnswer =
  | { readonly kind: "asked" }
  /** `server` is the Server header. */
  | { readonly kind: "answered"; readonly status: number; readonly server: string }
  /** A connection that was made, and closed or reset without an answer. */
  | { readonly kind: "failed"; readonly connected: boolean; readonly code: string };

/** @throws if the text is no order */
export function parseOrder(text: string): ProbeOrder {
  const order: unknown = JSON.parse(text);
  if (typeof order === "object" && order !== null && "do" in order) {
    if (order.do === "arp" && "addresses" in order && isTexts(order.addresses))
      return { do: "arp", addresses: order.addresses };
    if (
      order.do === "get" &&
      "address" in order &&
      typeof order.address === "string" &&
      "port" in order &&
      typeof order.port === "number" &&
      "timeoutMs" in order &&
      typeof order.timeoutMs === "number"
    )
      return { do: "get", address: order.address, port: order.port, timeoutMs: order.timeoutMs };
  }
  throw new Error("expected an order of the probe");
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((one) => typeof one === "string");
}

export async function carryOut(order: ProbeOrder): Promise<ProbeAnswer> {
  if (order.do === "get") return request(order);
  // An empty datagram to the discard port: before it can be sent, the kernel asks who has the address. The
  // interface has no address yet, so the question names none, as in RFC 5227.
  const socket = createSocket("udp4");
  socket.on("error", () => undefined);
  await Promise.all(
    order.addresses.map(
      (address) => new Promise<void>((resolve) => socket.send("", 9, address, () => resolve())),
    ),
  );
  socket.close();
  return { kind: "asked" };
}

/** Enough for a packet and one that repeats it after a second. */
const connectMs = 2_000;
/** How long the connection stays open after the answer, so that the host's socket table shows it. */
const lingerMs = 500;

function request({ address, port, timeoutMs }: Extract<ProbeOrder, { do: "get" }>): Promise<ProbeAnswer> {
  return new Promise((resolve) => {
    let connected = false;
    const settle = async (answer: ProbeAnswer) => {
      clearTimeout(timer);
      clearTimeout(connecting);
      if (answer.kind === "answered") await delay(lingerMs);
      resolve(answer);
      asking.destroy();
    };
    const asking = get(
      { host: address, port, path: "/latest/meta-data/", agent: false },
      (response: IncomingMessage) => {
        response.on("error", () => undefined);
        response.resume();
        const server = String(response.headers.server ?? "");
        void settle({ kind: "answered", status: response.statusCode ?? 0, server });
      },
    );
    asking.on("socket", (socket) =>
      socket.once("connect", () => {
        connected = true;
        clearTimeout(connecting);
      }),
    );
    asking.on(
      "error",
      (error: NodeJS.ErrnoException) =>
        void settle({ kind: "failed", connected, code: error.code ?? error.message }),
    );
    const expire = () => void settle({ kind: "failed", connected, code: "ETIMEDOUT" });
    const timer = setTimeout(expire, timeoutMs);
    const connecting = setTimeout(expire, Math.min(connectMs, timeoutMs));
  });
}
