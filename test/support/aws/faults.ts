/** What can be switched wrong, at run time. The objects with everything off are also the list of what exists. */

/** IMDS. Of `dropConnection`, `hang` and `status` the first that is set wins; `delayMs` comes before each. */
export const noImdsFaults = {
  /** Answer so much later. */
  delayMs: 0,
  /** Answer everything with this status (429, 500, 503, 403 for an endpoint that is turned off); 0 is off. */
  status: 0,
  /** Accept the request and never answer. */
  hang: false,
  /** Close the connection without an answer. */
  dropConnection: false,
  /** No instance profile: the `iam` subtree is not there. */
  noRole: false,
  /** The faults above, except `noRole`, hit only requests whose raw target contains this; empty means all. */
  match: "",
};
export type ImdsFaults = Readonly<typeof noImdsFaults>;

/** STS, for all calls or for the calls of one role. Where several are on, the first of this list wins (after the latency). */
export const noStsFaults = {
  latencyMs: 0,
  dropConnection: false,
  hang: false,
  status500: false,
  /** The answer is not STS's but this one of foreign-answers.ts; empty is off. */
  foreign: "",
  throttle: false,
  /** 200 with XML that ends in the middle of the session token: what a client says of it must not repeat the keys. */
  malformedXml: false,
  /** The host's keys are refused as expired, whichever they are; `rotate(0)` of IMDS ends one set only. */
  expiredHostToken: false,
  regionDisabled: false,
  accessDenied: false,
  /** Calls of instance-profile sessions count as role chaining: more than 3600 s is refused. */
  chainingLimit: false,
  /** Sessions end after so many seconds, whatever was asked; 0 is off. */
  sessionSeconds: 0,
  /** What stands as `Expiration`: `-60` or `+60` for seconds from now, `none` for no such element, else the text itself; empty is off. */
  expiration: "",
  /** The assumed role's ARN in the answer is this one; empty is off. */
  answerFor: "",
  /** No `Date` header. */
  noDate: false,
  /** The head of the answer comes at once, its body so much later. */
  bodyDelayMs: 0,
  /** The server's clock is ahead by so much (Date, signature time, expirations). Only for all calls. */
  clockSkewSeconds: 0,
  /** More calls than this in a second are throttled; 0 is off. Only for all calls. */
  callsPerSecond: 0,
};
export type StsFaults = Readonly<typeof noStsFaults>;

/** Which STS faults hold: those for all, changed by those for the role in question. */
export class StsFaultSwitches {
  #all: StsFaults = noStsFaults;
  readonly #byRole = new Map<string, Partial<StsFaults>>();

  /** Replaces what was set for all; `{}` turns all off. */
  set(faults: Partial<StsFaults>): void {
    this.#all = { ...noStsFaults, ...faults };
  }

  /** Replaces what was set for this role ARN. */
  setFor(roleArn: string, faults: Partial<StsFaults>): void {
    this.#byRole.set(roleArn, faults);
  }

  /** What is set for all. */
  get all(): StsFaults {
    return this.#all;
  }

  clear(): void {
    this.#all = noStsFaults;
    this.#byRole.clear();
  }

  /**
   * A role whose name is `fault-` and the name of an on/off fault (`fault-accessDenied`) always has that one, so that a
   * person at a shell can try it without switching anything.
   */
  for(roleArn: string): StsFaults {
    const named = /\/fault-([A-Za-z0-9]+)$/.exec(roleArn)?.[1];
    const byName = readFaults(noStsFaults, named === undefined ? {} : { [named]: true });
    const always: Partial<StsFaults> = "faults" in byName ? byName.faults : {};
    return { ...this.#all, ...always, ...this.#byRole.get(roleArn) };
  }
}

export type FaultsRead<Faults> = { readonly faults: Partial<Faults> } | { readonly problem: string };

/** Faults from JSON: each key must be one of `known`, each value of the same type as there. */
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
  // Each key and the type of each value were compared with `known` just above.
  return { faults: input as Partial<Faults> };
}
