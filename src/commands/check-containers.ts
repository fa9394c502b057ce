import { addressesOf, type Container } from "../containers/container.ts";
import { Directory } from "../containers/directory.ts";
import type { EngineState } from "../engine/connection.ts";
import type { Finding } from "./finding.ts";
import type { GuardView } from "./guard-view.ts";

/** The engines and their running containers. */
export type Seen = { readonly engines: readonly EngineState[]; readonly containers: readonly Container[] };

/**
 * What is true for the proxy: the guard's word, where it answers. This user may be allowed more than the
 * guard, or less; what it sees itself counts where there is no guard, and for engines that the guard does not
 * follow.
 */
export function seenBy(
  guard: Pick<GuardView, "silentBecause" | "engines" | "containers">,
  own: { readonly directory: Pick<Directory, "containers">; readonly engines: readonly EngineState[] },
): Seen {
  if (guard.silentBecause !== undefined)
    return { engines: own.engines, containers: own.directory.containers() };
  const followed = new Map(guard.engines.map((engine) => [engine.host, engine]));
  const containers = new Map(
    [...guard.containers, ...own.directory.containers()].map((container) => [container.id, container]),
  );
  return {
    engines: own.engines.map((engine) => (engine.connected ? engine : (followed.get(engine.host) ?? engine))),
    containers: [...containers.values()],
  };
}

/**
 * Nobody at an address that two running containers have is served. The directory judges that, as it does for
 * the proxy.
 */
export function conflictFindings(containers: readonly Container[]): readonly Finding[] {
  const directory = new Directory({ statics: [] });
  for (const container of containers) directory.upsert("check", container);
  return [...new Set(containers.flatMap(addressesOf))].flatMap((address): readonly Finding[] => {
    const lookup = directory.at(address);
    if (lookup.kind !== "conflict") return [];
    const names = lookup.containers.map(({ name }) => name).join(" and ");
    return [
      {
        subject: "containers",
        ok: false,
        text: `${names} have the same address ${address}, so none of them is served (address-conflict)`,
        hint: "Give their networks different subnets, or stop one of them.",
      },
    ];
  });
}
