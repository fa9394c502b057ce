import { type Fields, object, string } from "./json.ts";

/** What happened to one container, in the words of no engine. */
export type EngineEvent = {
  readonly kind:
    | "created"
    | "connected"
    | "disconnected"
    | "changed"
    | "ended"
    | "removed"
    | "network-created";
  /** The container's id; for `network-created` the network's. */
  readonly id: string;
  /** The network of `connected` and `disconnected`, where the engine names it; the new one of `network-created`. */
  readonly network: { readonly id: string; readonly name: string } | undefined;
  /** Milliseconds since the epoch, on the engine's clock. */
  readonly at: number;
};

/**
 * What we ask the engine to send. Podman knows `die` by its own name `died` in this filter, and sends it as `die` (containers/podman#16857).
 * Health checks alone make two `exec_*` events each time: they stay with the engine.
 */
export const eventFilters: Readonly<Record<string, string[]>> = {
  type: ["container", "network"],
  event: [
    ...["create", "init", "start", "die", "died", "destroy", "remove", "rename", "update", "unpause"],
    ...["connect", "disconnect"],
  ],
};

const containerKinds: Readonly<Record<string, EngineEvent["kind"]>> = {
  create: "created",
  // Podman's: the container has its network and its process by then, and its first instruction is still to come.
  init: "changed",
  start: "changed",
  rename: "changed",
  update: "changed",
  unpause: "changed",
  die: "ended",
  died: "ended",
  destroy: "removed",
  remove: "removed",
};

/**
 * Reads one line of `GET /events`; undefined where it is about nothing that we follow. Only Type, Action and Actor are read: API 1.52
 * no longer sends `status`, `id` and `from`.
 * @throws where the line is no JSON object, or an event that we follow has no id or time.
 */
export function readEvent(line: string): EngineEvent | undefined {
  const event = object(JSON.parse(line), "an event");
  const actor = object(event.Actor ?? {}, "an event's Actor");
  const attributes = object(actor.Attributes ?? {}, "an event's Actor.Attributes");
  if (event.Type === "container") {
    const known = typeof event.Action === "string" && Object.hasOwn(containerKinds, event.Action);
    const kind = known ? containerKinds[event.Action as string] : undefined; // a string, as was just seen
    if (kind === undefined) return undefined;
    return { kind, id: string(actor.ID, "an event's Actor.ID"), network: undefined, at: eventTime(event) };
  }
  if (event.Type !== "network") return undefined;
  const subject = string(actor.ID, "an event's Actor.ID");
  const name = attributes.name || attributes.network;
  if (event.Action === "create") {
    return {
      kind: "network-created",
      id: subject,
      network: { id: subject, name: String(name) },
      at: eventTime(event),
    };
  }
  if (event.Action !== "connect" && event.Action !== "disconnect") return undefined;
  const kind = event.Action === "connect" ? "connected" : "disconnected";
  const { container } = attributes;
  const at = eventTime(event);
  if (typeof container === "string" && container !== subject) {
    return { kind, id: container, network: { id: subject, name: String(name ?? "") }, at };
  }
  // Podman: the container is where Docker has the network, and the network is named since 5.0 only (containers/podman#21311).
  return {
    kind,
    id: subject,
    network: typeof name === "string" && name !== "" ? { id: name, name } : undefined,
    at,
  };
}

function eventTime(event: Fields): number {
  if (typeof event.timeNano === "number" && event.timeNano > 0) return event.timeNano / 1e6;
  return typeof event.time === "number" ? event.time * 1000 : 0;
}

/** Cuts a stream into its lines. The last piece, when the stream ends in the middle of a line, is dropped: half an event is none. */
export async function* lines(stream: AsyncIterable<Buffer>, maxBytes: number): AsyncGenerator<string> {
  let kept: Buffer[] = [];
  let keptBytes = 0;
  for await (const chunk of stream) {
    let from = 0;
    for (let end = chunk.indexOf(0x0a); end !== -1; end = chunk.indexOf(0x0a, from)) {
      const line = Buffer.concat([...kept, chunk.subarray(from, end)])
        .toString("utf8")
        .trim();
      kept = [];
      keptBytes = 0;
      from = end + 1;
      if (line !== "") yield line;
    }
    if (from < chunk.length) kept.push(chunk.subarray(from));
    keptBytes += chunk.length - from;
    if (keptBytes > maxBytes)
      throw new Error(`reading the engine's events: a line of more than ${maxBytes} bytes`);
  }
}
