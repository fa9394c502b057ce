import type { Container } from "../containers/container.ts";
import { keyOf } from "../credentials/assume-role.ts";
import type { Credentials } from "../credentials/document.ts";
import { type Denial, decide, type Grant, type RolePolicy } from "../roles/grant.ts";
import { TokenBucket } from "../token-bucket.ts";
import { type Activity, noActivity } from "./activity.ts";

/**
 * Why a caller is believed to be the container that has its address:
 * - `socket`: the connection is in the container's own socket table (containers/provenance.ts).
 * - `address`: the port lock is in force, so nobody else can use the address.
 * - `token`: it has a session token that was issued after one of these.
 * - `none`: it has the address. All that there is for static containers.
 */
export type ProofKind = "socket" | "address" | "token" | "none";

/** A container as a client: the decision about its role, and state that is kept between its requests. */
export type Caller = {
  readonly container: Container;
  readonly decision: Grant | Denial;
  /** The credential cache's key; empty for a denial. */
  readonly key: string;
  /** Limits the requests to both listeners together; undefined before the first request. */
  requests: TokenBucket | undefined;
  /** When each refusal code was last logged (ms). */
  readonly refusalsLogged: Map<string, number>;
  /** Kept for as long as the container runs, whatever changes about it. */
  readonly activity: Activity;
  /** Access key id of the last credentials that were audited, so that each set is audited once. */
  audited: string;
};

/**
 * Role decisions by container. The directory replaces a container's object when the container changes, so a
 * decision never outlives the facts it was based on.
 */
export class Callers {
  #byContainer = new WeakMap<Container, Caller>();
  /** By container id. */
  readonly #activities = new Map<string, Activity>();
  #policy: RolePolicy;
  #instanceId: string | undefined;

  constructor(policy: RolePolicy, instanceId: string | undefined) {
    this.#policy = policy;
    this.#instanceId = instanceId;
  }

  of(container: Container): Caller {
    const known = this.#byContainer.get(container);
    if (known !== undefined) return known;
    const decision = decide(container, this.#policy, this.#instanceId);
    const caller: Caller = {
      container,
      decision,
      key: decision.kind === "grant" ? keyOf(decision.request) : "",
      requests: undefined,
      refusalsLogged: new Map(),
      activity: this.#activityOf(container.id),
      audited: "",
    };
    this.#byContainer.set(container, caller);
    return caller;
  }

  /** The container has gone. */
  forget(id: string): void {
    this.#activities.delete(id);
  }

  #activityOf(id: string): Activity {
    const activity = this.#activities.get(id) ?? noActivity();
    this.#activities.set(id, activity);
    return activity;
  }

  get instanceId(): string | undefined {
    return this.#instanceId;
  }

  /**
   * After a reload, or when the instance id becomes known: each decision is made again at the next request.
   */
  replace(policy: RolePolicy, instanceId: string | undefined): void {
    this.#policy = policy;
    this.#instanceId = instanceId;
    this.#byContainer = new WeakMap();
  }
}

/** Counts one request against the container's rate limit; false if it exceeds it. */
export function withinRateLimit(caller: Caller, requestsPerSecond: number, now: number): boolean {
  caller.requests ??= new TokenBucket(requestsPerSecond, now);
  // A reload may have changed the rate.
  caller.requests.setRate(requestsPerSecond, now);
  if (caller.requests.delay(now) > 0) return false;
  caller.requests.take();
  return true;
}

/** Reports a set of credentials the first time the container gets it, on either listener. */
export function reportGrant(
  granted: (caller: Caller, accessKeyId: string, expiresAt: number, proof: ProofKind) => void,
  caller: Caller,
  { accessKeyId, expiresAt }: Pick<Credentials, "accessKeyId" | "expiresAt">,
  proof: ProofKind,
): void {
  if (caller.audited === accessKeyId) return;
  caller.audited = accessKeyId;
  granted(caller, accessKeyId, expiresAt, proof);
}
