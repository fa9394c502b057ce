import type { Caller } from "../imds/callers.ts";
import type { RefusedRequest } from "../imds/refusals.ts";
import type { Log } from "../log.ts";
import { shortId } from "../roles/template.ts";

/** A refusal is logged when it first happens to a container, and then at most this often: SDKs ask again and again. */
const repeatMs = 60_000;
/** Addresses that are no container's get so many lines in that time together: whoever can reach us could invent addresses, and fill the journal. */
const maxStrangers = 64;

export type Audit = {
  granted(caller: Caller, accessKeyId: string, expiresAt: number): void;
  refused(request: RefusedRequest): void;
  counts(): { readonly refused: number; readonly granted: number };
  /** How often each code refused somebody. */
  refusals(): ReadonlyMap<RefusedRequest["code"], number>;
};

/** The record of who was given which credentials, and who was refused and why. Holds no secret; access key ids are none. */
export function openAudit(log: Log, now: () => number): Audit {
  const strangers = new Map<string, number>();
  let unsaid = 0;
  let unsaidSince = 0;
  let granted = 0;
  let refused = 0;
  const byCode = new Map<RefusedRequest["code"], number>();

  const worthALine = (seen: Map<string, number>, key: string) => {
    const last = seen.get(key);
    if (last !== undefined && now() - last < repeatMs) return false;
    seen.delete(key);
    // In the order of their times: the first is the oldest.
    for (const [old, at] of seen) {
      if (now() - at < repeatMs) break;
      seen.delete(old);
    }
    if (seen.size >= maxStrangers) {
      if (unsaid === 0) unsaidSince = now();
      unsaid += 1;
      return false;
    }
    seen.set(key, now());
    return true;
  };

  /** So that what got no line of its own is not passed over in silence. */
  const sayUnsaid = () => {
    if (unsaid === 0 || now() - unsaidSince < repeatMs) return;
    log.warn(
      { refusals: unsaid },
      "refused: more callers, of addresses that are no container's, than are logged one by one",
    );
    unsaid = 0;
  };

  return {
    granted: ({ container, decision }, accessKeyId, expiresAt) => {
      granted += 1;
      if (decision.kind === "denial") return;
      log.info(
        {
          container: container.name,
          id: shortId(container.id),
          role: decision.request.roleArn,
          session: decision.request.sessionName,
          accessKeyId,
          expires: new Date(expiresAt).toISOString(),
          source: decision.source,
          rule: decision.rule,
          ...(decision.notes.length > 0 && { notes: decision.notes.join(", ") }),
        },
        "credentials granted",
      );
    },
    refused: ({ status, code, reason, address, caller, path }) => {
      refused += 1;
      byCode.set(code, (byCode.get(code) ?? 0) + 1);
      sayUnsaid();
      const seen = caller?.refusalsLogged ?? strangers;
      const fields = {
        code,
        status,
        address,
        ...(caller !== undefined && {
          container: caller.container.name,
          id: shortId(caller.container.id),
        }),
        // Of a connection that was turned away nothing was read.
        ...(path !== "" && { path: path.slice(0, 200) }),
      };
      if (worthALine(seen, caller === undefined ? `${code} ${address}` : code))
        log.info(fields, `refused: ${reason}`);
      else log.debug(fields, `refused: ${reason}`);
    },
    counts: () => ({ refused, granted }),
    refusals: () => byCode,
  };
}
