/** Faults that can be set at run time. The objects with everything off also list the faults that exist. */

/**
 * Faults of IMDS. Of `dropConnection`, `hang` and `status` the first one that is set applies, after
 * `delayMs`.
 */
export const noImdsFaults = {
  /** Delay each answer. */
  delayMs: 0,
  /** Answer everything with this status (429, 500, 503; 403 for a disabled endpoint); 0 is off. */
  status: 0,
  /** Accept the request and never answer. */
  hang: false,
  /** Close the connection without an answer. */
  dropConnection: false,
  /** No instance profile: the `iam` subtree does not exist. */
  noRole: false,
  /**
   * The faults above, except `noRole`, affect only requests whose raw target contains this; empty means all.
   */
  match: "",
};
export type ImdsFaults = Readonly<typeof noImdsFaults>;

/**
 * Faults of STS, for all calls or for one role. If several are set, the first one in this order applies,
 * after the latency.
 */
export const noStsFaults = {
  latencyMs: 0,
  dropConnection: false,
  hang: false,
  status500: false,
  /** Send this answer of foreign-answers.ts instead of one of STS; empty is off. */
  foreign: "",
  throttle: false,
  /**
   * 200 with XML that ends in the middle of the session token. A client's error message must not repeat the
   * keys.
   */
  malformedXml: false,
  /** Refuse all keys of the host as expired; `rotate(0)` of IMDS expires one set only. */
  expiredHostToken: false,
  regionDisabled: false,
  accessDenied: false,
  /** Treat calls of instance-profile sessions as role chaining: more than 3600 s is refused. */
  chainingLimit: false,
  /** Sessions end after so many seconds, regardless of the request; 0 is off. */
  sessionSeconds: 0,
  /**
   * The value of `Expiration`: `-60` or `+60` for seconds from now, `none` for no such element, else the text
   * itself; empty is off.
   */
  expiration: "",
  /** The assumed role's ARN in the answer; empty is off. */
  answerFor: "",
  /** No `Date` header. */
  noDate: false,
  /** Send the head of the answer at once and delay the body. */
  bodyDelayMs: 0,
  /** How far the server's clock is ahead (Date, signature time, expirations). Only for all calls. */
  clockSkewSeconds: 0,
  /** More calls than this in a second are throttled; 0 is off. Only for all calls. */
  callsPerSecond: 0,
};
export type StsFaults = Readonly<typeof noStsFaults>;

/** The STS faults in effect: those for all calls, overridden by those for a role. */
export class StsFaultSwitches {
  #all: StsFaults = noStsFaults;
  readonly #byRole = new Map<string, Partial<StsFaults>>();

  /** Replaces the faults for all calls; `{}` turns them off. */
  set(faults: Partial<StsFaults>): void {
    this.#all = { ...noStsFaults, ...faults };
  }

  /** Replaces the faults for this role ARN. */
  setFor(roleArn: string, faults: Partial<StsFaults>): void {
    this.#byRole.set(roleArn, faults);
  }

  /** The faults for all calls. */
  get all(): StsFaults {
    return this.#all;
  }

  clear(): void {
    this.#all = noStsFaults;
    this.#byRole.clear();
  }

  /**
   * A role whose name is `fault-` and the name of an on/off fault (`fault-accessDenied`) always has that one,
   * so that a person at a shell can try it without switching anything.
   */
  for(roleArn: string): StsFaults {
    const named = /\/fault-([A-Za-z0-9]+)$/.exec(roleArn)?.[1];
    const byName = readFaults(noStsFaults, named === undefined ? {} : { [named]: true });
    const always: Partial<StsFaults> = "faults" in byName ? byName.faults : {};
    return { ...this.#all, ...always, ...this.#byRole.get(roleArn) };
  }
}

export type FaultsRead<Faults> = { readonly faults: Partial<Faults> } | { readonly problem: string };

/** Faults from JSON. Each key must be in `known`, and each value must have the type that it has there. */
export function readFaults<Faults extends Readonly<Record<string, string | number | boolean>>>(
  known: Faults,
  input: unknown,
): FaultsRead<Faults> {
  if (typeof input !== "object" || input === null) return { problem: "faults: expected an object" };
  for (const [key, value] of Object.entries(input)) {
    if (!Object.hasOwn(known, key)) {
      return { problem: `faults: no fault named ${key}; there are ${Object.keys(known).join(", ")}` };
    }
    if (typeof value !== typeof known[key])
      return { problem: `faults: ${key} must be a ${typeof known[key]}` };
  }
  // Each key and the type of each value were checked against `known` above.
  return { faults: input as Partial<Faults> };
}
