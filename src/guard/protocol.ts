import { isIP } from "node:net";
import * as z from "zod";
import type { Container } from "../containers/container.ts";

/**
 * What the guard tells the proxy: newline-delimited JSON, one way. A connection begins with `hello`, then comes the
 * whole state (`engines`, each `container`, `snapshot-end`), then changes. The proxy writes nothing: to ask for the
 * state again it connects again.
 *
 * It carries what the proxy needs and no more: of a container's environment only IAM_ROLE and IAM_POLICY.
 */
export const protocolVersion = 1;

/** The guard says something at least this often, so that one that hangs is noticed. */
export const heartbeatMs = 5_000;

/** A message that is longer is nobody's: labels and addresses of one container take a few kilobytes. */
export const maxMessageBytes = 1_048_576;

const address = z.string().refine((text) => isIP(text) !== 0, "expected an IP address");
const wholeNumber = z.int().nonnegative();

const container = z.strictObject({
  id: z.string().regex(/^[0-9a-f]{64}$/),
  name: z.string(),
  image: z.string(),
  imageId: z.string(),
  // Pairs, and no object: a label named `__proto__` is a label like any other.
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

/** `locked`: the port lock is in force for all of its addresses; else `reason` says why not. */
const protection = z.strictObject({ locked: z.boolean(), reason: z.string() });

const message = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("hello"), protocol: z.literal(protocolVersion), version: z.string() }),
  /** All engines that are followed, in the configuration's order. */
  z.strictObject({ type: z.literal("engines"), engines: z.array(engine) }),
  /** A container that appeared, or whose facts changed. `owner`: the engine's host. */
  z.strictObject({ type: z.literal("container"), owner: z.string(), container, protection }),
  z.strictObject({ type: z.literal("gone"), owner: z.string(), id: z.string() }),
  /** What was not named since `hello` is gone. */
  z.strictObject({ type: z.literal("snapshot-end") }),
  z.strictObject({ type: z.literal("heartbeat") }),
]);

export type GuardMessage = z.infer<typeof message>;
export type Protection = z.infer<typeof protection>;
/** An engine's state, without the count of its containers, which the reader knows itself. */
export type FollowedEngine = z.infer<typeof engine>;

/** One line. @throws where the message is not one of the protocol: that is a bug of the guard's. */
export function encode(value: GuardMessage): string {
  return `${JSON.stringify(message.parse(value))}\n`;
}

/** @throws where the line is not a message of the protocol; names the place and no value, which may be confidential. */
export function decode(line: string): GuardMessage {
  const { data, error } = message.safeParse(JSON.parse(line));
  if (data !== undefined) return data;
  const places = error.issues.map(({ path, code }) => `${path.map(String).join(".")}: ${code}`);
  throw new Error(`a message is not of protocol ${protocolVersion} (${places.slice(0, 3).join(", ")})`);
}

export function containerMessage(
  owner: string,
  { id, name, image, imageId, labels, env, user, attachments, pid, pidStartedAt, risks }: Container,
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
      risks: [...risks],
    },
    protection,
  };
}

/** The two variables by name, so that no other variable is sent even if it was kept by mistake. */
function roleVariables({ IAM_ROLE, IAM_POLICY }: WireContainer["env"]): Container["env"] {
  return { ...(IAM_ROLE !== undefined && { IAM_ROLE }), ...(IAM_POLICY !== undefined && { IAM_POLICY }) };
}

type WireContainer = Extract<GuardMessage, { type: "container" }>["container"];

export function containerOf({ attachments, env, labels, pidStartedAt, ...rest }: WireContainer): Container {
  const named: Record<string, string> = Object.create(null);
  for (const [key, value] of labels) named[key] = value;
  return {
    ...rest,
    labels: named,
    env: roleVariables(env),
    attachments: attachments.map(({ network, ipv4, ipv6, mac }) => ({ network, ipv4, ipv6, mac })),
    ...(pidStartedAt !== undefined && { pidStartedAt }),
    source: "engine",
  };
}
