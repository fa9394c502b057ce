import { bridgeTable, compareBridgeTable, type PortMatch, renderBridgeTable } from "./bridge-table.ts";
import { failure, isPassing, mustRun, type Run, whyNot } from "./command.ts";
import type { FrameFilter } from "./frame-filter.ts";

/**
 * nftables' bridge family. Also beside iptables: ebtables knows no neighbour discovery and sees nothing behind a VLAN tag,
 * and a table of our own is nobody else's to flush.
 */
export function nftBridge(run: Run, ports: PortMatch): FrameFilter {
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
    open: ports === "by kind" ? "" : "ports that are not called veth* pass",
    render: (sources) => renderBridgeTable(sources, ports),
    async obstacle(sources) {
      const outcome = await run("nft", ["-c", "-f", "-"], renderBridgeTable(sources, ports));
      if (outcome.kind === "ran" && outcome.exitCode === 0) return undefined;
      if (isPassing(outcome)) throw failure(`checking table ${bridgeTable}`, "nft", outcome);
      return whyNot("nft", outcome);
    },
    compare: async (sources) => compareBridgeTable(sources, ports, await list()),
    async apply(sources) {
      const former = await list();
      const undo = async () => {
        if ((await list()) !== former) await restore(former);
      };
      const outcome = await run("nft", ["-f", "-"], renderBridgeTable(sources, ports));
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
