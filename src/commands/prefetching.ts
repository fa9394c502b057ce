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

/**
 * Has credentials fetched before containers request them, and released when a container is gone or lost its
 * role.
 */
export class Prefetching {
  readonly #dependencies: Dependencies;
  #started = false;

  constructor(dependencies: Dependencies) {
    this.#dependencies = dependencies;
  }

  readonly onChange = (change: Change): void => {
    if (change.kind === "gone") this.#dependencies.credentials.release(change.container.id);
    // Those of the first list follow in start(), after READY: loading the SDK takes time.
    else if (this.#started) this.#decide(change.container);
  };

  /** Fetches for `containers`, and from now on for each one that starts. */
  start(containers: readonly Container[]): void {
    this.#started = true;
    this.decideAgain(containers);
  }

  /** After a reload, which may have changed their roles. */
  decideAgain(containers: readonly Container[]): void {
    for (const container of containers) this.#decide(container);
  }

  #decide(container: Container): void {
    const { callers, credentials, enabled } = this.#dependencies;
    const { decision, key } = callers.of(container);
    if (decision.kind === "denial") credentials.release(container.id);
    // A container without an address of its own (host network, another container's network) cannot request
    // them.
    else if (enabled() && addressesOf(container).length > 0)
      credentials.prefetch(container.id, key, decision.request);
  }
}
