import { noteRefused } from "../imds/activity.ts";
import type { Caller, ProofKind } from "../imds/callers.ts";
import type { RefusedRequest } from "../imds/refusals.ts";
import type { Log } from "../log.ts";
import { shortId } from "../roles/template.ts";

/** How often the same refusal of a container is logged at most: SDKs retry all the time. */
const repeatMs = 60_000;
/**
 * Lines in that time for all unknown addresses together. A client could forge addresses and fill the journal.
 */
const maxUnknown = 64;

export type Audit = {
  granted(caller: Caller, accessKeyId: string, expiresAt: number, proof: ProofKind): void;
  refused(request: RefusedRequest): void;
  counts(): { readonly refused: number; readonly granted: number };
  /** The last refusal of an address that no known container has; undefined before the first. */
  stranger(): { readonly address: string; readonly agoMs: number } | undefined;
  /** Refusals by code, since the start. */
  refusals(): ReadonlyMap<RefusedRequest["code"], number>;
};

/**
 * Records which container got which credentials, and who was refused and why. No secrets; an access key id is
 * none.
 */
export function openAudit(log: Log, now: () => number): Audit {
  const unknownLogged = new Map<string, number>();
  let suppressed = 0;
  let suppressedSince = 0;
  let granted = 0;
  let refused = 0;
  let stranger: { readonly address: string; readonly at: number } | undefined;
  const byCode = new Map<RefusedRequest["code"], number>();

  /** @param seen when each key was logged last, oldest first */
  const shouldLog = (seen: Map<string, number>, key: string) => {
    const last = seen.get(key);
    if (last !== undefined && now() - last < repeatMs) return false;
    seen.delete(key);
    // Insertion order is the order of time.
    for (const [old, at] of seen) {
      if (now() - at < repeatMs) break;
      seen.delete(old);
    }
    if (seen.size >= maxUnknown) {
      if (suppressed === 0) suppressedSince = now();
      suppressed += 1;
      return false;
    }
    seen.set(key, now());
    return true;
  };

  const logSuppressed = () => {
    if (suppressed === 0 || now() - suppressedSince < repeatMs) return;
    log.warn(
      { code: "strangers-suppressed", refusals: suppressed },
      "refused: more unknown addresses than are logged one by one",
    );
    suppressed = 0;
  };

  return {
    granted: ({ container, decision }, accessKeyId, expiresAt, proof) => {
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
          proof,
          ...(decision.notes.length > 0 && { notes: decision.notes.join(", ") }),
        },
        "credentials granted",
      );
    },
    refused: (request) => {
      const { status, code, reason, address, caller, path, requestId } = request;
      refused += 1;
      if (caller !== undefined) noteRefused(caller.activity, request, now());
      else if (code === "unknown-caller") stranger = { address, at: now() };
      byCode.set(code, (byCode.get(code) ?? 0) + 1);
      logSuppressed();
      const seen = caller?.refusalsLogged ?? unknownLogged;
      const fields = {
        ...(requestId !== undefined && { request: requestId }),
        code,
        status,
        address,
        ...(caller !== undefined && {
          container: caller.container.name,
          id: shortId(caller.container.id),
        }),
        // Nothing was read from a connection that was turned away.
        ...(path !== "" && { path: path.slice(0, 200) }),
      };
      if (shouldLog(seen, caller === undefined ? `${code} ${address}` : code))
        log.info(fields, `refused: ${reason}`);
      else log.debug(fields, `refused: ${reason}`);
    },
    counts: () => ({ refused, granted }),
    stranger: () => stranger && { address: stranger.address, agoMs: now() - stranger.at },
    refusals: () => byCode,
  };
}
