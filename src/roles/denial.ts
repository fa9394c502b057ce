import type { Risk } from "../containers/container.ts";

/**
 * Why a container gets no role. The codes are an interface: they are in the log, audit records, metrics and
 * `explain`. Codes may be added, never changed or removed. imds/refusals.ts has their descriptions.
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

/** The reason for the operator. Neither text contains control characters, whatever the container wrote. */
export type Refusal = {
  readonly code: DenialCode;
  readonly reason: string;
  /** What to change, and where. */
  readonly hint: string;
};

/** What each risk means; completes "the container …". */
export const riskWords: Readonly<Record<Risk, string>> = {
  privileged: "runs privileged, so it can become root on the host",
  "docker-socket": "has the engine's socket, so it can start and enter any container",
  "host-network": "uses the host's network",
  "host-pid": "sees the host's processes",
  "net-admin": "can configure its network (NET_ADMIN)",
  "net-raw-added": "was granted NET_RAW, so it can spoof addresses on its bridge",
};
