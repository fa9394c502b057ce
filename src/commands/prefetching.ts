import { addressesOf, type Container } from "../containers/container.ts";
import type { CredentialCache } from "../credentials/cache.ts";
import type { Change } from "../engine/connection.ts";
import type { Callers } from "../imds/callers.ts";

type Dependencies = {
  readonly callers: Pick<Callers, "of">;
  readonly credentials: Pick<CredentialCache, "prefetch" | "release">;
  /** The configuration's `prefetch`, as it is now. */
  readonly enabled: () => boolean;
};

/** Has credentials fetched for containers before they ask, and given up when they have gone or lost their role. */
export class Prefetching {
  readonly #the: Dependencies;
  #started = false;

  constructor(dependencies: Dependencies) {
    this.#the = dependencies;
  }

  readonly onChange = (change: Change): void => {
    if (change.kind === "gone") this.#the.credentials.release(change.container.id);
    // Those of the first list have their turn after READY: the SDK takes its time to load.
    else if (this.#started) this.#decide(change.container);
  };

  /** From now on; first of all for those that there are. */
  start(containers: readonly Container[]): void {
    this.#started = true;
    this.decideAgain(containers);
  }

  /** After a reload: their roles may be others. */
  decideAgain(containers: readonly Container[]): void {
    for (const container of containers) this.#decide(container);
  }

  #decide(container: Container): void {
    const { callers, credentials, enabled } = this.#the;
    const { decision, key } = callers.of(container);
    if (decision.kind === "denial") credentials.release(container.id);
    // One without an address (host network, another container's network) never asks under its own name.
    else if (enabled() && addressesOf(container).length > 0)
      credentials.prefetch(container.id, key, decision.request);
  }
}
