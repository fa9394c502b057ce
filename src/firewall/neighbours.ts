import { failure, mustRun, type Run } from "./command.ts";
import { isInterfaceName } from "./interface-name.ts";
import { parseListing } from "./ip-listing.ts";

export type NeighbourEntry = {
  readonly address: string;
  readonly bridge: string;
  /** The hardware addresses that the address may have. */
  readonly macs: readonly string[];
};

/**
 * Removes entries of the host's ARP and neighbour caches. The host then resolves the addresses again.
 * @returns the entries that another hardware address still has
 * @throws OperatorError 69 if the caches cannot be read or changed
 */
export async function forgetNeighbours<Entry extends NeighbourEntry>(
  run: Run,
  entries: readonly Entry[],
): Promise<readonly Entry[]> {
  // ip parses the text, and quotes and comment signs with it. Not `del`, which ends the whole batch if there
  // is no such entry.
  const lines = entries
    .filter(({ bridge }) => isInterfaceName(bridge))
    .map(({ address, bridge }) => `neigh flush to ${address} dev ${bridge}\n`);
  if (lines.length === 0) return [];
  const outcome = await run("ip", ["-force", "-batch", "-"], lines.join(""));
  if (outcome.kind === "missing") throw failure("removing neighbour entries", "ip", outcome);
  const unexpected = outcome.stderr.split("\n").filter((line) => line.trim() !== "" && !noBridge.test(line));
  if (unexpected.length > 0)
    throw failure("removing neighbour entries", "ip", { ...outcome, stderr: unexpected.join("\n") });
  // What counts is what the host believes now.
  const listing = await mustRun(run, "reading neighbour entries", "ip", [
    "-j",
    "neigh",
    "show",
    "nud",
    "all",
  ]);
  const believed = new Map(
    parseListing(listing).map(({ dst, dev, lladdr }) => [`${String(dst)} ${String(dev)}`, lladdr]),
  );
  return entries.filter(({ address, bridge, macs }) => {
    const mac = believed.get(`${address} ${bridge}`);
    return typeof mac === "string" && !macs.includes(mac);
  });
}

/** There is no such bridge any more. */
const noBridge = /Cannot find device|No such device|^Command failed /;
