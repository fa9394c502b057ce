import type { Comparison } from "./backend.ts";
import { bridgeTable, compareBridgeTable, type HostSources, renderBridgeTable } from "./bridge-table.ts";
import { failure, mustRun, type Run, whyNot } from "./command.ts";
import { parseAddresses } from "./host-addresses.ts";
import type { Settings } from "./settings.ts";

/** The filter below IP: what keeps containers from speaking as the host on a bridge. */
export type FrameFilter = {
  /** What `status` calls it. */
  readonly place: string;
  /** What it cannot refuse; empty where it refuses all. */
  readonly open: string;
  render(sources: HostSources): string;
  /** Why this host cannot take the rules; undefined where it can. Changes nothing. */
  obstacle(sources: HostSources): Promise<string | undefined>;
  compare(sources: HostSources): Promise<Comparison>;
  /** All or nothing. @returns what brings the former rules back */
  apply(sources: HostSources): Promise<() => Promise<void>>;
  /** True if there was something to remove. */
  remove(): Promise<boolean>;
};

/** What a neighbour can do where there is no such filter, in the words that `status` and `check` print. */
export const openWithout = "a neighbour with NET_RAW can speak as the host on layer 2";

export type Layer2 =
  | { readonly kind: "filtered"; readonly filter: FrameFilter; readonly sources: HostSources }
  | { readonly kind: "open"; readonly why: string };

/** The first filter that this host takes. Without one the rules for packets still hold: none is no failure, but it is said. */
export async function chooseLayer2(
  run: Run,
  settings: Settings,
  filters: readonly FrameFilter[],
): Promise<Layer2> {
  if (settings.layer2 === "off") return { kind: "open", why: "LAYER2=off" };
  const sources = await sourcesOf(run, settings);
  if (typeof sources === "string") return { kind: "open", why: sources };
  const reasons: string[] = [];
  for (const filter of filters) {
    const reason = await filter.obstacle(sources);
    if (reason === undefined) return { kind: "filtered", filter, sources };
    reasons.push(reason);
  }
  return { kind: "open", why: reasons.join("; ") };
}

/** Or why they are not known. */
async function sourcesOf(run: Run, settings: Settings): Promise<HostSources | string> {
  const outcome = await run("ip", ["addr", "show"]);
  if (outcome.kind === "missing" || outcome.exitCode !== 0) return whyNot("ip", outcome);
  return [...new Set([settings.metadataIpv4, settings.metadataIpv6, ...parseAddresses(outcome.stdout)])];
}

/**
 * nftables' bridge family. Also beside iptables: ebtables knows no neighbour discovery and sees nothing behind a VLAN tag,
 * and a table of our own is nobody else's to flush.
 */
export function nftBridge(run: Run): FrameFilter {
  const list = async (): Promise<string | undefined> => {
    const outcome = await run("nft", ["-s", "list", "table", ...bridgeTable.split(" ")]);
    if (outcome.kind === "missing") return undefined;
    if (outcome.exitCode === 0) return outcome.stdout;
    if (/no such file or directory|not supported/i.test(outcome.stderr)) return undefined;
    throw failure(`reading table ${bridgeTable}`, "nft", outcome);
  };
  const restore = (former: string | undefined) =>
    mustRun(
      run,
      `restoring table ${bridgeTable}`,
      "nft",
      ["-f", "-"],
      `add table ${bridgeTable}\ndelete table ${bridgeTable}\n${former ?? ""}`,
    );
  return {
    place: `table ${bridgeTable}`,
    open: "",
    render: renderBridgeTable,
    async obstacle(sources) {
      const outcome = await run("nft", ["-c", "-f", "-"], renderBridgeTable(sources));
      return outcome.kind === "ran" && outcome.exitCode === 0 ? undefined : whyNot("nft", outcome);
    },
    compare: async (sources) => compareBridgeTable(sources, await list()),
    async apply(sources) {
      const former = await list();
      const undo = async () => {
        if ((await list()) !== former) await restore(former);
      };
      const outcome = await run("nft", ["-f", "-"], renderBridgeTable(sources));
      if (outcome.kind === "ran" && outcome.exitCode === 0) return undo;
      // nft commits all or nothing, but one that is killed may have committed.
      if (outcome.kind === "ran") await undo();
      throw failure(`applying table ${bridgeTable}`, "nft", outcome);
    },
    async remove() {
      if ((await list()) === undefined) return false;
      await mustRun(run, `removing table ${bridgeTable}`, "nft", [
        "delete",
        "table",
        ...bridgeTable.split(" "),
      ]);
      return true;
    },
  };
}
