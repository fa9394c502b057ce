import type { Container } from "../containers/container.ts";
import { keyOf } from "../credentials/assume-role.ts";
import type { Credentials } from "../credentials/document.ts";
import { type Denial, decide, type Grant, type RolePolicy } from "../roles/grant.ts";

/** What was decided for a container, with all that need not be worked out for each request. */
export type Caller = {
  readonly container: Container;
  readonly decision: Grant | Denial;
  /** The credential cache's key; empty for a denial. */
  readonly key: string;
  /** Requests that the container may still make now, and when that was last topped up (ms). */
  allowance: number;
  allowanceAt: number;
  /** Codes of refusals that were logged lately, and when (ms). */
  readonly refusalsLogged: Map<string, number>;
  /** Access key ids of the credentials that were handed out last, so that each grant is audited once. */
  audited: string;
};

/** Decisions by container. A container's entry is a new object when it changed, so an old decision cannot outlive its facts. */
export class Callers {
  #byContainer = new WeakMap<Container, Caller>();
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
      allowance: Number.POSITIVE_INFINITY,
      allowanceAt: 0,
      refusalsLogged: new Map(),
      audited: "",
    };
    this.#byContainer.set(container, caller);
    return caller;
  }

  get instanceId(): string | undefined {
    return this.#instanceId;
  }

  /** After a reload, or when the instance id becomes known: every decision is made again at the next request. */
  replace(policy: RolePolicy, instanceId: string | undefined): void {
    this.#policy = policy;
    this.#instanceId = instanceId;
    this.#byContainer = new WeakMap();
  }
}

/** Whether the container may ask now. A token bucket with one second's worth of requests; both services of ours draw from it. */
export function admitted(caller: Caller, perSecond: number, now: number): boolean {
  const topUp = ((now - caller.allowanceAt) / 1000) * perSecond;
  caller.allowance = Math.min(perSecond, caller.allowance + Math.max(0, topUp));
  caller.allowanceAt = now;
  if (caller.allowance < 1) return false;
  caller.allowance -= 1;
  return true;
}

/** Tells of a set of credentials when the container is given it for the first time, by whichever of our services. */
export function noteGrant(
  granted: (caller: Caller, accessKeyId: string, expiresAt: number) => void,
  caller: Caller,
  { accessKeyId, expiresAt }: Pick<Credentials, "accessKeyId" | "expiresAt">,
): void {
  if (caller.audited === accessKeyId) return;
  caller.audited = accessKeyId;
  granted(caller, accessKeyId, expiresAt);
}
