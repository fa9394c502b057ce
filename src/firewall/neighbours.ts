import { failure, type Run } from "./command.ts";
import { isInterfaceName } from "./interface-name.ts";

export type NeighbourEntry = { readonly address: string; readonly bridge: string };

/**
 * Removes entries of the host's ARP and neighbour caches. The host then resolves the addresses again.
 * @throws OperatorError 69 if an entry may still be there
 */
export async function forgetNeighbours(run: Run, entries: readonly NeighbourEntry[]): Promise<void> {
  // ip parses the text, and quotes and comment signs with it.
  const lines = entries
    .filter(({ bridge }) => isInterfaceName(bridge))
    .map(({ address, bridge }) => `neigh del ${address} dev ${bridge}\n`);
  if (lines.length === 0) return;
  const outcome = await run("ip", ["-force", "-batch", "-"], lines.join(""));
  if (outcome.kind === "missing") throw failure("removing neighbour entries", "ip", outcome);
  const unexpected = outcome.stderr.split("\n").filter((line) => line.trim() !== "" && !absent.test(line));
  if (outcome.exitCode !== 0 && unexpected.length > 0)
    throw failure("removing neighbour entries", "ip", { ...outcome, stderr: unexpected.join("\n") });
}

/** There is no such entry, or no such bridge any more. */
const absent = /No such file or directory|Cannot find device|No such device|^Command failed /;
