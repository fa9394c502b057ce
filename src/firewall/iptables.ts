import { exitCodes, explain, OperatorError } from "../errors.ts";
import type { Backend } from "./backend.ts";
import { failure, isPassing, isPermission, mustRun, type Outcome, type Run, whyNot } from "./command.ts";
import {
  anyNew,
  leavesAny,
  leftBehind,
  marked,
  type PresentChains,
  parseChains,
} from "./iptables-base-chains.ts";
import { type Tables, tablesOf, transition } from "./iptables-rules.ts";
import { differences, hasOurs, type LiveTables, parseSave } from "./iptables-save.ts";
import type { Family } from "./ruleset.ts";

/** Which implementation: the host's default `iptables`, or the one with this suffix. */
export type Variant = "" | "-legacy" | "-nft";

/**
 * Uses iptables-save and iptables-restore of each family, with chains of our own. Tables are committed one by
 * one, and rolled back if a later one fails.
 * @param hasIpv6 whether the kernel supports IPv6; without it, ip6tables is not used
 */
export function iptables(run: Run, hasIpv6: () => Promise<boolean>, variant: Variant = ""): Backend {
  const tools = async (): Promise<readonly Tool[]> => {
    const families: readonly Family[] = (await hasIpv6()) ? ["ipv4", "ipv6"] : ["ipv4"];
    return families.map((family) => toolFor(run, family, variant));
  };
  return {
    name: "iptables",
    place: "chains EC2METAPROXY-*",
    render: (rules) =>
      (["ipv4", "ipv6"] as const)
        .map((family) => {
          const { name } = toolFor(run, family, "");
          return `# ${name}-restore --noflush\n${transition(new Map(), tablesOf(rules, family))}`;
        })
        .join("\n"),
    async obstacle(rules) {
      for (const tool of await tools()) {
        const outcome = await tool.restore(transition(new Map(), tablesOf(rules, tool.family)), "--test");
        if (outcome.kind === "ran" && outcome.exitCode === 0) continue;
        const error = failure("checking the iptables rules", `${tool.name}-restore`, outcome);
        const decides = isPermission(outcome) || isPassing(outcome);
        return { reason: whyNot(`${tool.name}-restore`, outcome), error, decides };
      }
      return undefined;
    },
    async compare(rules) {
      const result = { present: false, missing: [] as string[], unexpected: [] as string[] };
      for (const tool of await tools()) {
        const live = await tool.live();
        const { missing, unexpected } = differences(live, tablesOf(rules, tool.family), tool.name);
        result.missing.push(...missing);
        result.unexpected.push(...unexpected);
        result.present ||= hasOurs(live);
      }
      return result;
    },
    async apply(rules) {
      const done: { readonly tool: Tool; readonly former: LiveTables }[] = [];
      try {
        for (const tool of await tools()) {
          const former = await tool.live();
          done.push({ tool, former });
          const tables = tablesOf(rules, tool.family);
          const present = anyNew(tables, former) ? await tool.present() : undefined;
          const wanted = marked(tables, former, present);
          await tool.change(`applying the ${tool.name} rules`, former, wanted);
        }
      } catch (error) {
        await rollBack(done, error);
        throw error;
      }
    },
    async remove() {
      let found = false;
      for (const tool of await tools()) {
        const live = await tool.live();
        if (!hasOurs(live)) continue;
        found = true;
        await tool.change(`removing the ${tool.name} rules`, live, new Map());
      }
      return found;
    },
  };
}

/** The commands of one family. */
type Tool = {
  readonly family: Family;
  readonly name: string;
  /** The chains in nftables, with iptables-nft; undefined with iptables-legacy or without nft. */
  present(): Promise<PresentChains | undefined>;
  /** Empty if the command is missing. */
  live(): Promise<LiveTables>;
  restore(text: string, ...more: readonly string[]): Promise<Outcome>;
  change(doing: string, from: LiveTables, to: Tables): Promise<void>;
};

function toolFor(run: Run, family: Family, variant: Variant): Tool {
  const name = `${family === "ipv4" ? "iptables" : "ip6tables"}${variant}`;
  // Wait up to 10 s for the xtables lock.
  const args = ["--noflush", "-w", "10"];
  const tool: Tool = {
    family,
    name,
    async present() {
      const version = await run(name, ["--version"]);
      if (version.kind === "missing" || !version.stdout.includes("nf_tables")) return undefined;
      const listing = await run("nft", ["list", "chains", family === "ipv4" ? "ip" : "ip6"]);
      return listing.kind === "ran" && listing.exitCode === 0 ? parseChains(listing.stdout) : undefined;
    },
    async live() {
      // Without -t, it prints the existing tables and creates none.
      const outcome = await run(`${name}-save`, []);
      if (outcome.kind === "missing") return new Map();
      if (outcome.exitCode !== 0) throw failure(`reading the ${name} rules`, `${name}-save`, outcome);
      return parseSave(outcome.stdout);
    },
    restore: (text, ...more) => run(`${name}-restore`, [...args, ...more], text),
    async change(doing, from, to) {
      const text = transition(from, to);
      if (text !== "") await mustRun(run, doing, `${name}-restore`, args, text);
      const present = leavesAny(from, to) ? await tool.present() : undefined;
      if (present === undefined) return;
      const traces = leftBehind(from, to, await tool.live(), present, family);
      // What is left behind is empty and has no effect, so failing to delete it does not fail the change.
      if (traces !== "") await run("nft", ["-f", "-"], traces);
    },
  };
  return tool;
}

/**
 * Restores the previous rules, the last family first.
 * @throws OperatorError that names both failures, if that fails too
 */
async function rollBack(
  done: readonly { readonly tool: Tool; readonly former: LiveTables }[],
  cause: unknown,
): Promise<void> {
  const failures: string[] = [];
  for (const { tool, former } of done.toReversed()) {
    try {
      await tool.change(`restoring the previous ${tool.name} rules`, await tool.live(), former);
    } catch (error) {
      failures.push(explain(error));
    }
  }
  if (failures.length === 0) return;
  throw new OperatorError(failures.join("; "), {
    hint: "The rules in force are neither the previous nor the new ones. Run ec2metaproxy firewall apply again, then ec2metaproxy firewall status.",
    exitCode: exitCodes.unavailable,
    cause,
  });
}
