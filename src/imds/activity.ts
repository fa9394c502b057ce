/** What a container has asked for, and what it got. Times are by the monotonic clock, in milliseconds. */
export type Activity = {
  /** Requests from its address, answered or refused. */
  requests: number;
  /** Those that were refused. */
  refusals: number;
  /** When it last got credentials. */
  servedAt: number | undefined;
  /** The last refusal of a request for its role: a token, the role's name, credentials. */
  lastRefusal: LastRefusal | undefined;
  /** When the first such request was refused after it last got credentials. */
  unservedSince: number | undefined;
};

/** As in RefusedRequest. */
type Refused = {
  readonly status: number;
  readonly code: string;
  readonly reason: string;
  readonly path: string;
};

type LastRefusal = Omit<Refused, "path"> & { readonly at: number };

export function noActivity(): Activity {
  return { requests: 0, refusals: 0, servedAt: undefined, lastRefusal: undefined, unservedSince: undefined };
}

/** It got credentials, so what was refused before does not matter any more. */
export function noteServed(activity: Activity, at: number): void {
  activity.servedAt = at;
  activity.unservedSince = undefined;
}

export function noteRefused(activity: Activity, refused: Refused, at: number): void {
  const { code, reason, status, path } = refused;
  activity.refusals += 1;
  if (!isForRole(path)) return;
  activity.lastRefusal = { code, reason, status, at };
  activity.unservedSince ??= at;
}

/** For the health only, so it need not be exact. Nothing was read from a connection that was turned away. */
function isForRole(path: string): boolean {
  return path === "" || /\/(api\/token|meta-data\/iam|v1\/credentials)\b/.test(path);
}
