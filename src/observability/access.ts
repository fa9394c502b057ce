import type { AccessLog } from "../imds/access.ts";
import type { Log } from "../log.ts";
import { shortId } from "../roles/template.ts";

/** Longer user agents say no more about a client. */
const longestUserAgent = 160;

/**
 * The access log: one line for each request and its answer, at debug level. The path is canonical, so it has
 * no query; of the headers only the user agent is logged, and nothing of a body. What a client wrote is
 * escaped by the journal.
 * @param process distinguishes the ids of this process from those of others on the host
 */
export function openAccessLog(log: Log, process: string): AccessLog {
  let count = 0;
  return {
    nextId: () => {
      count += 1;
      return `${process}-${count}`;
    },
    answered: ({ id, caller, address, method, path, imds, status, bytes, durationMs, ...rest }) => {
      const { userAgent, from, isComplete } = rest;
      log.debug(
        {
          request: id,
          ...(caller === undefined
            ? { address }
            : { container: caller.container.name, id: shortId(caller.container.id), address }),
          method,
          path: path ?? "(not canonical)",
          imds,
          status,
          bytes,
          ms: Math.round(durationMs * 10) / 10,
          from,
          ...(userAgent !== "" && { userAgent: userAgent.slice(0, longestUserAgent) }),
          ...(!isComplete && { incomplete: true }),
        },
        "answered",
      );
    },
  };
}
