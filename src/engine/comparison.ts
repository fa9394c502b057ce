import { type Attachment, addressesOf, type Container, isStarting } from "../containers/container.ts";
import type { Listed } from "./client.ts";

/** What the engine lists and what the directory has of that engine. */
type Compared = {
  readonly listed: readonly Listed[];
  /** Ids of listed containers whose entry in the directory is still right. */
  readonly unchanged: ReadonlySet<string>;
  readonly owned: ReadonlyMap<string, Container>;
  /** Ids with an event since the list was requested. The list may be older than the event. */
  readonly changed: ReadonlySet<string>;
};

type Differences = {
  /** Ids to remove from the directory. */
  readonly gone: readonly string[];
  readonly toInspect: readonly string[];
  /** How many containers came or went without an event. If any did, the event stream is unreliable. */
  readonly withoutEvent: number;
};

export function differences({ listed, unchanged, owned, changed }: Compared): Differences {
  const running = new Set(listed.map(({ id }) => id));
  const missing = [...owned.values()].filter(({ id }) => !running.has(id) && !changed.has(id));
  // A starting container is not in a list of running ones; the engine knows whether it still starts.
  const gone = missing.filter((container) => !isStarting(container)).map(({ id }) => id);
  const starting = missing.filter(isStarting).map(({ id }) => id);
  const differ = listed.filter(({ id }) => !unchanged.has(id)).map(({ id }) => id);
  const came = listed.filter(({ id }) => !owned.has(id) && !changed.has(id));
  return { gone, toInspect: [...differ, ...starting], withoutEvent: came.length + gone.length };
}

/** Whether name and addresses are as listed. The address on swarm's gateway bridge is not in the list. */
export function isAsListed(container: Container, listed: Listed, gateway: Attachment | undefined): boolean {
  const has = new Set(addressesOf(container));
  const expected = [...listed.addresses, ...(gateway?.ipv4 === undefined ? [] : [gateway.ipv4])];
  return (
    container.name === listed.name &&
    expected.length === has.size &&
    expected.every((address) => has.has(address))
  );
}
