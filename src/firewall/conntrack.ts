import { isIPv4 } from "node:net";
import type { Run } from "./command.ts";

/**
 * Forgets the connections that containers had with the real metadata service before there were rules, so that their next
 * packet is judged anew. Only those that left the host masqueraded: neither redirected ones nor the host's own.
 * Without conntrack-tools nothing is lost: the guards refuse those packets, and the client times out instead of being redirected.
 * @returns what was done, for the log
 */
export async function forgetOldConnections(run: Run, addresses: readonly string[]): Promise<string> {
  let forgotten = 0;
  for (const address of addresses) {
    const family = isIPv4(address) ? "ipv4" : "ipv6";
    const filter = ["--orig-dst", address, "--reply-src", address, "--src-nat"];
    const outcome = await run("conntrack", ["-D", "-f", family, ...filter]);
    if (outcome.kind === "missing")
      return "conntrack-tools are not installed; old connections are dropped by the rules";
    forgotten += Number(/(\d+) flow entries have been deleted/.exec(outcome.stderr)?.[1] ?? 0);
  }
  return `${forgotten} old connections forgotten`;
}
