import type { Risk } from "../containers/container.ts";

/**
 * Why a container gets no role. Codes are only ever added: the log, the metrics and `explain` carry them.
 * imds/refusals.ts has their words.
 */
export type DenialCode =
  | "no-role-requested"
  | "label-required"
  | "refused-risk"
  | "unknown-alias"
  | "unknown-default-alias"
  | "invalid-role"
  | "role-arn-not-allowed"
  | "alias-not-allowed"
  | "container-policy-not-allowed"
  | "invalid-policy";

/** Why, in words for the operator; both texts are free of control characters whatever the container wrote. */
export type Refusal = {
  readonly code: DenialCode;
  readonly reason: string;
  /** What to change, and where. */
  readonly hint: string;
};

/** What each risk means, to end the sentence "it …". */
export const riskWords: Readonly<Record<Risk, string>> = {
  privileged: "runs privileged, so it can become root on the host",
  "docker-socket": "has the engine's socket, so it can start and enter any container",
  "host-network": "is on the host's network",
  "host-pid": "sees the host's processes",
  "net-admin": "may set up its network (NET_ADMIN)",
  "net-raw-added": "was given NET_RAW, so it can spoof addresses on its bridge",
};
