import { isIPv4 } from "node:net";
import { failure, mustRun, type Run } from "./command.ts";

/**
 * A second lock beside the packet filter: routing rules that send every packet for a metadata address nowhere, unless the
 * host itself made it. `nft flush ruleset`, a restart of nftables or of Docker and `firewall-cmd --reload` do not touch
 * routing, so a container that asks while the filter's rules are gone gets nothing instead of the instance's role.
 * A redirected packet has another destination by the time that it is routed, and so is not caught.
 */
export type Guard = { readonly addresses: readonly string[]; readonly action: "blackhole" | "prohibit" };

/** Before the rules of VPN tools and of amazon-ec2-net-utils (from 5000 on), after the local table (0). */
const skipAt = 169;
const refuseAt = 170;
const landAt = 171;

type RoutingRule = { readonly family: "-4" | "-6"; readonly text: string; readonly args: readonly string[] };

/** In an order in which the host itself is never cut off on the way: the refusal comes last. */
function rulesOf(guard: Guard): readonly RoutingRule[] {
  return guard.addresses.flatMap((address): RoutingRule[] => {
    const family = isIPv4(address) ? "-4" : "-6";
    return [
      routingRule(family, landAt, address, ["nop"]),
      // For a lookup on behalf of a local socket the incoming interface is lo. Going on behind the refusal, instead of
      // looking into the main table, leaves the host's own routing rules in force.
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

/** What is missing, as `ip rule` would print it. @throws OperatorError where ip(8) is missing or may not be asked. */
export async function missingFromGuard(run: Run, guard: Guard): Promise<readonly string[]> {
  const live = await liveRules(run);
  return rulesOf(guard)
    .filter((rule) => live.supports(rule.family) && !live.has(rule))
    .map((rule) => `ip ${rule.family} rule ${rule.text}`);
}

export type GuardChange = { readonly changed: boolean; readonly undo: () => Promise<void> };

/** Adds what is missing and takes away what an earlier setting left; without a guard, all. Where it fails, all is as before. */
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

/** True if there was anything. */
export async function removeGuard(run: Run): Promise<boolean> {
  const { ours } = await liveRules(run);
  await removeRules(run, ours);
  return ours.length > 0;
}

/** Refusals last, for the host's sake. */
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

/** `settled` is what ip says where somebody else did the same a moment before. */
async function change(run: Run, verb: "add" | "del", rule: RoutingRule, settled: RegExp): Promise<void> {
  const outcome = await run("ip", [rule.family, "rule", verb, ...rule.args]);
  if (outcome.kind === "ran" && (outcome.exitCode === 0 || settled.test(outcome.stderr))) return;
  throw failure(`${verb === "add" ? "adding" : "removing"} the routing rule ${rule.text}`, "ip", outcome);
}

type LiveRules = {
  /** False where the kernel has no IPv6 at all: nothing to guard then. */
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

/** The rules that are ours by their priority and whole form. */
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
