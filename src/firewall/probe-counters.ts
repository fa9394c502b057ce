import type { Run } from "./command.ts";

/** A rule of iptables, or a chain's policy, that dropped or rejected packets between two listings. */
export type Counted = { readonly table: string; readonly chain: string; readonly by: string };

/** The probe's packets, as the rules see them. */
export type Counting = {
  readonly family: "ipv4" | "ipv6";
  readonly bridge: string;
  readonly address: string;
  readonly ports: readonly number[];
};

/**
 * iptables-legacy is traced to the kernel's log only, so its counters are read before and after.
 * @returns the listing, and the program that prints it; undefined where there is none
 */
export async function countersOf(
  run: Run,
  family: "ipv4" | "ipv6",
): Promise<{ readonly program: string; readonly listing: string } | undefined> {
  const name = family === "ipv4" ? "iptables" : "ip6tables";
  for (const program of [`${name}-legacy`, name]) {
    const outcome = await run(`${program}-save`, ["-c"]);
    if (outcome.kind === "ran" && outcome.exitCode === 0) return { program, listing: outcome.stdout };
  }
  return undefined;
}

const ruleLine = /^\[(\d+):\d+\] -A (\S+) (.*)$/;
const policyLine = /^:(\S+) DROP \[(\d+):\d+\]$/;

/** Which rules dropped more packets than before, and could match the probe's; pure. */
export function countedSince(before: string, after: string, probe: Counting): readonly Counted[] {
  const former = countersIn(before);
  return [...countersIn(after)].flatMap(([key, { packets, counted, rule }]) =>
    packets > (former.get(key)?.packets ?? 0) && couldMatch(rule, probe) ? [counted] : [],
  );
}

type Counter = { readonly packets: number; readonly counted: Counted; readonly rule: string };

/** The counters of what drops, by table, chain and rule. */
function countersIn(listing: string): ReadonlyMap<string, Counter> {
  const counters = new Map<string, Counter>();
  let table = "";
  for (const line of listing.split("\n")) {
    if (line.startsWith("*")) table = line.slice(1).trim();
    const [, builtin = "", dropped] = policyLine.exec(line) ?? [];
    if (dropped !== undefined)
      counters.set(`${table} ${builtin}`, {
        packets: Number(dropped),
        counted: { table, chain: builtin, by: "its policy, DROP" },
        rule: "",
      });
    const [, packets, chain = "", rule = ""] = ruleLine.exec(line) ?? [];
    if (packets === undefined || !/(?:^| )-j (?:DROP|REJECT)\b/.test(rule)) continue;
    const by = `its rule -A ${chain} ${rule}`;
    counters.set(`${table} ${chain} ${rule}`, {
      packets: Number(packets),
      counted: { table, chain, by },
      rule,
    });
  }
  return counters;
}

/** False where a match that is easy to read excludes the probe: other traffic moves counters too. */
function couldMatch(rule: string, { bridge, address, ports }: Counting): boolean {
  const option = (name: string) => new RegExp(`(?:^| )(! )?${name} (\\S+)`).exec(rule);
  const [, , protocol] = option("-p") ?? [];
  if (protocol !== undefined && protocol !== "tcp") return false;
  const [, notIn, inInterface] = option("-i") ?? [];
  if (inInterface !== undefined) {
    const isSame = inInterface.endsWith("+")
      ? bridge.startsWith(inInterface.slice(0, -1))
      : bridge === inInterface;
    if (isSame === (notIn !== undefined)) return false;
  }
  const [, notPort, port] = option("--dport") ?? [];
  if (port !== undefined && !port.includes(":") && ports.includes(Number(port)) === (notPort !== undefined))
    return false;
  const [, notFrom, from] = option("-s") ?? [];
  return !(
    from !== undefined &&
    notFrom === undefined &&
    /\/(?:32|128)$/.test(from) &&
    !from.startsWith(`${address}/`)
  );
}
