import * as z from "zod";
import { canonicalAddress } from "../config/address.ts";
import type { Container } from "../containers/container.ts";

/**
 * What the guard tells the proxy: newline-delimited JSON, in one direction. A connection begins with `hello`.
 * Then comes the whole state (`engines`, `host`, each `container`, `snapshot-end`), then each change. Changes
 * may also come before `snapshot-end`. The proxy writes nothing: to request the state again, it connects
 * again.
 *
 * Only what the proxy needs is sent: of a container's environment, IAM_ROLE and IAM_POLICY.
 */
export const protocolVersion = 1;

/** The guard sends something at least this often, so that the proxy notices when it hangs. */
export const heartbeatMs = 5_000;

/** The labels and addresses of one container take a few kilobytes. A longer message is not the guard's. */
export const maxMessageBytes = 1_048_576;

// Addresses are keys: another notation would be another key.
const address = z
  .string()
  .refine((text) => canonicalAddress(text) === text, "expected an IP address in canonical form");
const wholeNumber = z.int().nonnegative();

const container = z.strictObject({
  id: z.string().regex(/^[0-9a-f]{64}$/),
  name: z.string(),
  image: z.string(),
  imageId: z.string(),
  // Pairs, not an object, because a label may be called `__proto__`.
  labels: z.array(z.tuple([z.string(), z.string()])),
  env: z.strictObject({ IAM_ROLE: z.string().optional(), IAM_POLICY: z.string().optional() }),
  user: z.string(),
  attachments: z.array(
    z.strictObject({
      network: z.string(),
      ipv4: address.optional(),
      ipv6: address.optional(),
      mac: z
        .string()
        .regex(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/)
        .optional(),
    }),
  ),
  pid: wholeNumber,
  pidStartedAt: wholeNumber.optional(),
  networkOf: z.string().optional(),
  risks: z.array(
    z.enum(["privileged", "docker-socket", "host-network", "host-pid", "net-admin", "net-raw-added"]),
  ),
});

const engine = z.strictObject({
  host: z.string(),
  connected: z.boolean(),
  since: z.number(),
  lastError: z.string().optional(),
  apiVersion: z.string().optional(),
  engine: z.string().optional(),
});

/** As in containers/protection.ts. It is about the addresses in the same message. */
const protection = z.strictObject({
  locked: z.boolean(),
  reason: z.string(),
  pending: z.literal(true).optional(),
});

const host = z.strictObject({
  firewall: z.strictObject({
    /**
     * - `in-force`: the base rules are as the settings want them.
     * - `not-in-force`: they are missing, or not as the settings want them.
     * - `check-failed`: they cannot be checked, which they normally can.
     * - `unknown`: not checked yet, or rules that only the firewall's own units can read (iptables-legacy).
     */
    state: z.enum(["in-force", "not-in-force", "check-failed", "unknown"]),
    /** Since when, by the wall clock of that moment: milliseconds since the epoch. */
    since: z.number(),
    /** Why; empty where they are in force. */
    reason: z.string(),
  }),
  /** Why the port lock's table cannot be completed; empty where there is no such trouble. */
  lockTrouble: z.string(),
});

const message = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("hello"), protocol: z.literal(protocolVersion), version: z.string() }),
  /** Every engine of the configuration, in its order. */
  z.strictObject({ type: z.literal("engines"), engines: z.array(engine) }),
  /** What the guard does for the host as a whole. */
  z.strictObject({ type: z.literal("host"), host }),
  /** A container that has appeared, or has changed, or whose protection has. `owner` is its engine's host. */
  z.strictObject({ type: z.literal("container"), owner: z.string(), container, protection }),
  z.strictObject({ type: z.literal("gone"), owner: z.string(), id: z.string() }),
  /** Containers of connected engines that were not named since `hello` are gone. */
  z.strictObject({ type: z.literal("snapshot-end") }),
  z.strictObject({ type: z.literal("heartbeat") }),
]);

export type GuardMessage = z.infer<typeof message>;
export type HostState = z.infer<typeof host>;
export type Protection = z.infer<typeof protection>;
/** An engine's state. The reader counts its containers itself. */
export type FollowedEngine = z.infer<typeof engine>;

/** Returns one line. @throws if the message is not one of the protocol, which is a bug of the guard. */
export function encode(value: GuardMessage): string {
  return `${JSON.stringify(message.parse(value))}\n`;
}

/**
 * @throws if the line is not a message of the protocol. The error names the place, and no value: it is
 * logged, and values may be confidential.
 */
export function decode(line: string): GuardMessage {
  const { data, error } = message.safeParse(parsed(line));
  if (data !== undefined) return data;
  const places = error.issues.map(({ path, code }) => `${path.map(String).join(".")}: ${code}`);
  throw new Error(`a message is not of protocol ${protocolVersion} (${places.slice(0, 3).join(", ")})`);
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    // Its own message quotes the text.
    throw new Error("a line is not JSON");
  }
}

export function containerMessage(
  owner: string,
  {
    id,
    name,
    image,
    imageId,
    labels,
    env,
    user,
    attachments,
    pid,
    pidStartedAt,
    risks,
    networkOf,
  }: Container,
  protection: Protection,
): GuardMessage {
  return {
    type: "container",
    owner,
    container: {
      ...{ id, name, image, imageId, user, pid },
      labels: Object.entries(labels),
      env: roleVariables(env),
      attachments: attachments.map(({ network, ipv4, ipv6, mac }) => ({
        network,
        ...(ipv4 !== undefined && { ipv4 }),
        ...(ipv6 !== undefined && { ipv6 }),
        ...(mac !== undefined && { mac }),
      })),
      ...(pidStartedAt !== undefined && { pidStartedAt }),
      ...(networkOf !== undefined && { networkOf }),
      risks: [...risks],
    },
    protection,
  };
}

/** Names the two variables, so that another one is not sent even if it was kept by mistake. */
function roleVariables({ IAM_ROLE, IAM_POLICY }: WireContainer["env"]): Container["env"] {
  return { ...(IAM_ROLE !== undefined && { IAM_ROLE }), ...(IAM_POLICY !== undefined && { IAM_POLICY }) };
}

type WireContainer = Extract<GuardMessage, { type: "container" }>["container"];

export function containerOf({
  attachments,
  env,
  labels,
  pidStartedAt,
  networkOf,
  ...rest
}: WireContainer): Container {
  const named: Record<string, string> = Object.create(null);
  for (const [key, value] of labels) named[key] = value;
  return {
    ...rest,
    labels: named,
    env: roleVariables(env),
    attachments: attachments.map(({ network, ipv4, ipv6, mac }) => ({ network, ipv4, ipv6, mac })),
    ...(pidStartedAt !== undefined && { pidStartedAt }),
    ...(networkOf !== undefined && { networkOf }),
    source: "engine",
  };
}
