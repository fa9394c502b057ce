import { isIPv4 } from "node:net";
import { failure, mustRun, type Run } from "./command.ts";

/**
 * A second layer beside the packet filter: routing rules (ip-rule(8)) that discard every packet for a
 * metadata address that the host itself did not send. `nft flush ruleset`, a restart of nftables or Docker
 * and `firewall-cmd --reload` do not change routing. So a container that sends a request while the filter's
 * rules are gone gets nothing, instead of the instance's role. A redirected packet already has another
 * destination when it is routed, so these rules do not match it.
 */
export type Guard = { readonly addresses: readonly string[]; readonly action: "blackhole" | "prohibit" };

/**
 * Priorities: after the local table (0), before the rules of VPN tools and of amazon-ec2-net-utils (from
 * 5000).
 */
const skipAt = 169;
const refuseAt = 170;
const landAt = 171;

type RoutingRule = { readonly family: "-4" | "-6"; readonly text: string; readonly args: readonly string[] };

/** In the order in which to add them: the refusal comes last, so that the host itself is never cut off. */
function rulesOf(guard: Guard): readonly RoutingRule[] {
  return guard.addresses.flatMap((address): RoutingRule[] => {
    const family = isIPv4(address) ? "-4" : "-6";
    return [
      routingRule(family, landAt, address, ["nop"]),
      // A lookup for a local socket has lo as its incoming interface. It jumps past the refusal instead of
      // looking in the main table, so that the host's own routing rules still apply.
      routingRule(family, skipAt, address, ["iif", "lo", "goto", String(landAt)]),
      routingRule(family, refuseAt, address, [guard.action]),
    ];
  });
}

function routingRule(
  family: "-4" | "-6",
  priority: number,
  address: string,
  rest: readonly string[],
): RoutingRule {
  const text = `${priority}: from all to ${address} ${rest.join(" ")}`;
  return { family, text, args: ["pref", String(priority), "to", address, ...rest] };
}

/** The missing rules, as `ip rule` prints them. @throws OperatorError if ip(8) is missing or fails */
export async function missingFromGuard(run: Run, guard: Guard): Promise<readonly string[]> {
  const live = await liveRules(run);
  return rulesOf(guard)
    .filter((rule) => live.supports(rule.family) && !live.has(rule))
    .map((rule) => `ip ${rule.family} rule ${rule.text}`);
}

export type GuardChange = { readonly changed: boolean; readonly undo: () => Promise<void> };

/**
 * Adds missing rules and removes those of earlier settings; without a guard, removes all. If it fails, it
 * undoes its changes.
 */
export async function applyGuard(run: Run, guard: Guard | undefined): Promise<GuardChange> {
  const live = await liveRules(run);
  const wanted = guard === undefined ? [] : rulesOf(guard).filter((rule) => live.supports(rule.family));
  const lacking = wanted.filter((rule) => !live.has(rule));
  const stale = live.ours.filter((rule) => !wanted.some((one) => same(one, rule)));
  const undo = async () => {
    await addRules(run, stale);
    await removeRules(run, lacking);
  };
  try {
    await addRules(run, lacking);
    await removeRules(run, stale);
  } catch (error) {
    await undo();
    throw error;
  }
  return { changed: lacking.length + stale.length > 0, undo };
}

/** True if there was something to remove. */
export async function removeGuard(run: Run): Promise<boolean> {
  const { ours } = await liveRules(run);
  await removeRules(run, ours);
  return ours.length > 0;
}

/** Refusals last, so that the host itself is never cut off. */
async function addRules(run: Run, rules: readonly RoutingRule[]): Promise<void> {
  const refusalsLast = rules.toSorted((a, b) => Number(isRefusal(a)) - Number(isRefusal(b)));
  for (const rule of refusalsLast) await change(run, "add", rule, /File exists/);
}

/** Refusals first. */
async function removeRules(run: Run, rules: readonly RoutingRule[]): Promise<void> {
  const refusalsFirst = rules.toSorted((a, b) => Number(isRefusal(b)) - Number(isRefusal(a)));
  for (const rule of refusalsFirst) await change(run, "del", rule, /No such file or directory/);
}

function same(a: RoutingRule, b: RoutingRule): boolean {
  return a.family === b.family && a.text === b.text;
}

function isRefusal(rule: RoutingRule): boolean {
  return rule.args[1] === String(refuseAt);
}

/** @param settled matches the error of ip if another process has just made the same change */
async function change(run: Run, verb: "add" | "del", rule: RoutingRule, settled: RegExp): Promise<void> {
  const outcome = await run("ip", [rule.family, "rule", verb, ...rule.args]);
  if (outcome.kind === "ran" && (outcome.exitCode === 0 || settled.test(outcome.stderr))) return;
  throw failure(`${verb === "add" ? "adding" : "removing"} the routing rule ${rule.text}`, "ip", outcome);
}

type LiveRules = {
  /** False if the kernel has no IPv6: then there is nothing to guard. */
  supports(family: "-4" | "-6"): boolean;
  has(rule: RoutingRule): boolean;
  readonly ours: readonly RoutingRule[];
};

async function liveRules(run: Run): Promise<LiveRules> {
  const ipv4 = readRules("-4", await mustRun(run, "reading the routing rules", "ip", ["-4", "rule", "show"]));
  const outcome = await run("ip", ["-6", "rule", "show"]);
  const failed = outcome.kind === "missing" || outcome.exitCode !== 0;
  const noIpv6 = outcome.kind === "ran" && failed && /not supported/i.test(outcome.stderr);
  if (failed && !noIpv6) throw failure("reading the IPv6 routing rules", "ip", outcome);
  const ours = failed ? ipv4 : [...ipv4, ...readRules("-6", outcome.stdout)];
  return {
    ours,
    supports: (family) => family === "-4" || !noIpv6,
    has: (rule) => ours.some((live) => same(live, rule)),
  };
}

const ourShape = /^(169|170|171): from all to (\S+) (iif lo goto 171|blackhole|prohibit|nop)$/;

/** The rules that are ours, by priority and exact form. */
function readRules(family: "-4" | "-6", listing: string): readonly RoutingRule[] {
  return listing.split("\n").flatMap((raw) => {
    const text = raw.replace(/\s+/g, " ").replace(" [unresolved]", "").trim();
    const [, priority, address, rest] = ourShape.exec(text) ?? [];
    if (priority === undefined || address === undefined || rest === undefined) return [];
    return [routingRule(family, Number(priority), address, rest.split(" "))];
  });
}

export async function guardPresent(run: Run): Promise<boolean> {
  return (await liveRules(run)).ours.length > 0;
}
