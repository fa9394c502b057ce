import type { EngineBridges } from "../firewall/engine-bridges.ts";
import type { Log } from "../log.ts";
import type { Repair } from "./guard-repair.ts";

/**
 * Puts bridges that engines were told the name of into the rules, before a container of a new network starts.
 * Never rejects.
 */
export async function coverBridges(
  { bridges, repair, log }: { bridges: EngineBridges; repair: Pick<Repair, "cover" | "request">; log: Log },
  host: string,
  names: readonly string[],
): Promise<void> {
  const before = bridges.names().join(" ");
  await bridges
    .set(host, names)
    .catch((err: unknown) =>
      log.error({ code: "bridges-not-kept", err }, "the names of bridges are not kept for the next boot"),
    );
  if (bridges.names().join(" ") === before) return;
  log.info({ bridges: bridges.names() }, "the bridges that engines were told the name of have changed");
  await repair.cover().catch((err: unknown) => {
    log.error({ code: "bridge-not-covered", err }, "covering a bridge failed");
    repair.request();
  });
}
