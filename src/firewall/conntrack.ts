import { isIPv4 } from "node:net";
import type { Run } from "./command.ts";

/**
 * Deletes the conntrack entries of connections that containers opened to the real metadata service before
 * there were rules, so that the rules apply to their next packet. Only masqueraded connections: neither
 * redirected ones nor the host's own. Without conntrack-tools the guard chains still drop those packets; the
 * client then times out instead of being redirected.
 * @returns what was done, for the log
 */
export async function forgetOldConnections(run: Run, addresses: readonly string[]): Promise<string> {
  let deleted = 0;
  for (const address of addresses) {
    const family = isIPv4(address) ? "ipv4" : "ipv6";
    const filter = ["--orig-dst", address, "--reply-src", address, "--src-nat"];
    const outcome = await run("conntrack", ["-D", "-f", family, ...filter]);
    if (outcome.kind === "missing") return "conntrack-tools is not installed; the rules drop old connections";
    deleted += Number(/(\d+) flow entries have been deleted/.exec(outcome.stderr)?.[1] ?? 0);
  }
  return `deleted ${deleted} conntrack entries of old connections`;
}
