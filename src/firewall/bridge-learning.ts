import { mustRun, type Run } from "./command.ts";
import { isInterfaceName } from "./interface-name.ts";
import { linkInfo, parseListing } from "./ip-listing.ts";

const listBridges = ["-j", "-d", "link", "show", "type", "bridge"];

/**
 * Makes bridges learn no addresses from link-local frames (to 01:80:c2:00:00:00 to 0f), and returns those
 * that may still do so. The kernel takes such frames out before the rules of hook prerouting; LLDP's pass no
 * hook at all. Otherwise a container could send one from another's hardware address, and the bridge would
 * deliver the other's frames to it.
 * @throws OperatorError 69 if the host's bridges cannot be read
 */
export async function stopLinkLocalLearning(
  run: Run,
  bridges: ReadonlySet<string>,
): Promise<ReadonlySet<string>> {
  if (bridges.size === 0) return bridges;
  const stillLearning = async () => {
    const notLearning = parseNotLearning(await mustRun(run, "reading the host's bridges", "ip", listBridges));
    return new Set([...bridges].filter((bridge) => !notLearning.has(bridge)));
  };
  const learning = await stillLearning();
  // ip parses the text, and quotes and comment signs with it.
  const lines = [...learning]
    .filter(isInterfaceName)
    .map((bridge) => `link set dev ${bridge} type bridge no_linklocal_learn 1\n`);
  if (lines.length === 0) return learning;
  // Whether it worked is read from the bridges.
  await run("ip", ["-force", "-batch", "-"], lines.join(""));
  return await stillLearning();
}

/**
 * The names of the bridges that learn nothing from link-local frames.
 * @param listing of `ip -j -d link show type bridge`
 * @throws if it is not a JSON list
 */
export function parseNotLearning(listing: string): ReadonlySet<string> {
  const names = parseListing(listing).map(({ ifname, ...link }) => {
    const { no_linklocal_learn: option } = linkInfo(link).settings;
    return option === 1 ? ifname : undefined;
  });
  return new Set(names.filter((name) => typeof name === "string"));
}
