import { type Fields, object, string } from "./json.ts";

/** What happened to one container, independent of the engine that reports it. */
export type EngineEvent = {
  readonly kind:
    | "created"
    | "connected"
    | "disconnected"
    | "changed"
    | "ended"
    | "removed"
    | "network-created"
    | "network-removed";
  /** The container's id, or for the last two the network's. */
  readonly id: string;
  /** The network of the event. For `connected` and `disconnected` only if the engine names it. */
  readonly network: { readonly id: string; readonly name: string } | undefined;
  /** Milliseconds since the epoch, by the engine's clock; 0 if the event has no time. */
  readonly at: number;
};

/**
 * The events that we request. Podman calls `die` `died` in this filter, but sends `die`
 * (containers/podman#16857). `exec_*` events are filtered out by the engine: every health check makes two of
 * them.
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
  // Podman only: the container has its network and its process, which has not run its first instruction.
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
 * Reads one line of `GET /events`; undefined for an event that we do not follow. Reads only Type, Action,
 * Actor and the time: API 1.52 no longer sends `status`, `id` and `from`.
 * @throws if the line is not a JSON object, or an event that we follow has no id.
 */
export function readEvent(line: string): EngineEvent | undefined {
  const event = object(JSON.parse(line), "an event");
  const actor = object(event.Actor ?? {}, "an event's Actor");
  const attributes = object(actor.Attributes ?? {}, "an event's Actor.Attributes");
  if (event.Type === "container") {
    const { Action: action } = event;
    const isFollowed = typeof action === "string" && Object.hasOwn(containerKinds, action);
    const kind = isFollowed ? containerKinds[action] : undefined;
    if (kind === undefined) return undefined;
    return { kind, id: string(actor.ID, "an event's Actor.ID"), network: undefined, at: eventTime(event) };
  }
  if (event.Type !== "network") return undefined;
  const subject = string(actor.ID, "an event's Actor.ID");
  const name = attributes.name || attributes.network;
  const isRemoved = event.Action === "destroy" || event.Action === "remove";
  if (event.Action === "create" || isRemoved) {
    return {
      kind: isRemoved ? "network-removed" : "network-created",
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
  // Podman puts the container's id where Docker has the network's, and names the network only since 5.0
  // (containers/podman#21311).
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

/** Splits a stream into lines. An incomplete line at its end is dropped: it is half an event. */
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
    if (keptBytes > maxBytes) throw new Error(`a line of more than ${maxBytes} bytes`);
  }
}
