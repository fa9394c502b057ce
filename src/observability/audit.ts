import type { Caller } from "../imds/callers.ts";
import type { Refusal } from "../imds/handler.ts";
import type { Log } from "../log.ts";
import { shortId } from "../roles/template.ts";

/** A refusal is logged when it first happens to a container, and then at most this often: SDKs ask again and again. */
const repeatMs = 60_000;
/** Addresses that are no container's; bounded, since anybody who can reach us could invent some. */
const maxStrangers = 1_024;

export type Audit = {
  granted(caller: Caller, accessKeyId: string, expiresAt: number): void;
  refused(refusal: Refusal): void;
  counts(): { readonly refused: number; readonly granted: number };
  /** How often each code refused somebody. */
  refusals(): ReadonlyMap<string, number>;
};

/** The record of who was given which credentials, and who was refused and why. Holds no secret; access key ids are none. */
export function openAudit(log: Log, now: () => number): Audit {
  const strangers = new Map<string, number>();
  let granted = 0;
  let refused = 0;
  const byCode = new Map<string, number>();

  const worthALine = (seen: Map<string, number>, key: string) => {
    const last = seen.get(key);
    if (last !== undefined && now() - last < repeatMs) return false;
    if (seen.size >= maxStrangers) seen.clear();
    seen.set(key, now());
    return true;
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
      const seen = caller?.refusalsLogged ?? strangers;
      const fields = {
        code,
        status,
        address,
        ...(caller !== undefined && {
          container: caller.container.name,
          id: shortId(caller.container.id),
        }),
        path: path.slice(0, 200),
      };
      if (worthALine(seen, caller === undefined ? `${code} ${address}` : code))
        log.info(fields, `refused: ${reason}`);
      else log.debug(fields, `refused: ${reason}`);
    },
    counts: () => ({ refused, granted }),
    refusals: () => byCode,
  };
}
