import { randomBytes } from "node:crypto";
import pLimit from "p-limit";
import { explain } from "../errors.ts";
import { follow, hold, mustRun, run } from "../firewall/command.ts";
import { isInterfaceName, matchesInterface } from "../firewall/interface-name.ts";
import { parseListing } from "../firewall/ip-listing.ts";
import { runsProxy } from "../firewall/listeners.ts";
import { type Probed, type ProbeTools, probeBridge } from "../firewall/probe.ts";
import type { Settings } from "../firewall/settings.ts";
import { printable } from "../text.ts";

/** Each takes a network namespace and a few processes. */
const atOnce = 4;

/** @param program how this program is started again, with its file last */
export function hostTools(program: readonly string[]): ProbeTools {
  return {
    run,
    hold,
    follow,
    client: [...program, "probe-request"],
    isProxy: (pid) => runsProxy(program.at(-1) ?? "", pid),
    suffix: () => randomBytes(3).toString("hex"),
  };
}

/**
 * Sends a request to the metadata service from each bridge that the settings cover, as a container would.
 * Needs root. Never rejects.
 */
export async function probeBridges(tools: ProbeTools, settings: Settings): Promise<readonly Probed[]> {
  const failed = (bridge: string, text: string, hint: string): readonly Probed[] => [
    { bridge, family: undefined, ok: undefined, result: "not tried", text, hint },
  ];
  let bridges: readonly string[];
  try {
    const listing = await mustRun(tools.run, "listing the bridges", "ip", [
      "-j",
      "link",
      "show",
      "type",
      "bridge",
    ]);
    bridges = parseListing(listing)
      .map(({ ifname }) => ifname)
      .filter((name) => typeof name === "string")
      .filter(isInterfaceName)
      .filter((name) => settings.interfaces.some((pattern) => matchesInterface(pattern, name)));
  } catch (error) {
    return failed("", `not tried: ${explain(error)}`, "");
  }
  if (bridges.length === 0)
    return failed(
      "",
      `not tried: the host has no bridge of INTERFACES="${settings.interfaces.join(" ")}" now`,
      "",
    );
  const limit = pLimit(atOnce);
  const results = await Promise.all(
    bridges.map((bridge) =>
      limit(() =>
        probeBridge(tools, settings, bridge).catch((error: unknown) =>
          failed(bridge, `${bridge}: not tried: ${explain(error)}`, ""),
        ),
      ),
    ),
  );
  return results.flat();
}

export function probeLine({ ok, text, hint }: Probed): string {
  const mark = ok === undefined ? "note" : ok ? "ok  " : "FAIL";
  return printable(`  ${mark}  probe: ${text}${hint === "" ? "" : `. ${hint}`}`);
}
