/** What a line of `ip monitor` is about, as far as it matters here. */
export type IpChange =
  | "routing-rule"
  | "routing-rule-removed"
  | "address"
  | "link"
  | "numbered-link"
  | "lost";

/** The arguments of ip(8). No `neigh`: the cache of a busy host changes all the time. */
export const ipMonitorArgs = ["-o", "monitor", "label", "link", "address", "rule"] as const;

/** Reads one line of `ip -o monitor label link address rule`. */
export function readIpEvent(line: string): IpChange | undefined {
  // The priorities are those of route-guard.ts. `ip rule flush` deletes each rule.
  const rule = /^\[RULE\](Deleted )?(?:169|170|171):/.exec(line);
  if (rule !== null) return rule[1] === undefined ? "routing-rule" : "routing-rule-removed";
  if (line.startsWith("[ADDR]")) return "address";
  // Of a burst, the kernel drops what ip has not read in time.
  if (line.startsWith("netlink receive error")) return "lost";
  // A link whose name is a number, which nft could take for the index of another one.
  if (/^\[LINK\](Deleted )?\d+: \d+[@:]/.test(line)) return "numbered-link";
  if (line.startsWith("[LINK]")) return "link";
  return undefined;
}
