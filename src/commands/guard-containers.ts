import type { Container } from "../containers/container.ts";
import type { Directory } from "../containers/directory.ts";
import type { Change } from "../engine/connection.ts";
import type { LockTarget, PortLock, Protection } from "../firewall/port-lock.ts";
import type { PublishedContainer, Publisher } from "../guard/publisher.ts";
import type { Log } from "../log.ts";

type Options = {
  readonly directory: Directory;
  /** The engines' hosts, which own the containers in the directory. */
  readonly hosts: readonly string[];
  readonly lock: Pick<PortLock, "set" | "delete" | "protectionOf">;
  readonly publisher: Pick<Publisher, "container" | "gone">;
  readonly log: Log;
};

/** Hands each change of a container to the port lock and to the proxy. */
export class GuardedContainers {
  readonly #options: Options;

  constructor(options: Options) {
    this.#options = options;
  }

  /** Call after the directory was changed. */
  onChange({ kind, container }: Change, host: string): void {
    const { lock, publisher } = this.#options;
    const { id } = container;
    if (kind === "gone") {
      // One engine may be followed under two names.
      if (this.#ownersOf(id).length === 0) lock.delete(id);
      publisher.gone(host, id);
      return;
    }
    lock.set(id, lockTargetOf(container));
    publisher.container({ owner: host, container, protection: this.#protectionOf(id) });
  }

  /** Call when the lock of these containers has come into force, or could not be made. */
  onProtection(ids: readonly string[]): void {
    const { publisher, lock, log } = this.#options;
    for (const id of ids) {
      const owners = this.#ownersOf(id);
      for (const { owner, container } of owners)
        publisher.container({ owner, container, protection: this.#protectionOf(id) });
      const [one] = owners;
      const protection = lock.protectionOf(id);
      if (one === undefined || one.container.pid === 0) continue;
      const fields = { container: id.slice(0, 12), name: one.container.name };
      if (protection.locked) log.debug(fields, "locked");
      else log.debug({ ...fields, reason: protection.reason }, "not locked");
    }
  }

  /** What is published, read from the directory as it is asked for. */
  *published(): Generator<PublishedContainer> {
    const { directory, hosts } = this.#options;
    for (const owner of hosts) {
      for (const id of [...directory.owned(owner).keys()]) {
        const container = directory.owned(owner).get(id);
        if (container !== undefined) yield { owner, container, protection: this.#protectionOf(id) };
      }
    }
  }

  counts(): { readonly containers: number; readonly locked: number } {
    const { directory, lock } = this.#options;
    const containers = directory.containers();
    return {
      containers: containers.length,
      locked: containers.filter(({ id }) => lock.protectionOf(id).locked).length,
    };
  }

  #ownersOf(id: string): readonly { readonly owner: string; readonly container: Container }[] {
    const { directory, hosts } = this.#options;
    return hosts.flatMap((owner) => {
      const container = directory.owned(owner).get(id);
      return container === undefined ? [] : [{ owner, container }];
    });
  }

  #protectionOf(id: string): PublishedContainer["protection"] {
    return wireProtection(this.#options.lock.protectionOf(id));
  }
}

function wireProtection(protection: Protection): PublishedContainer["protection"] {
  if (protection.locked) return { locked: true, reason: "" };
  const { reason, isPending } = protection;
  return { locked: false, reason, ...(isPending && { pending: true }) };
}

/** What of a container is to be locked. */
export function lockTargetOf({ attachments, pid, pidStartedAt }: Container): LockTarget {
  const withAddress = attachments.filter(({ ipv4, ipv6 }) => ipv4 !== undefined || ipv6 !== undefined);
  const unnamed = withAddress.some(({ mac }) => mac === undefined);
  return {
    macs: [...new Set(attachments.flatMap(({ mac }) => mac ?? []))],
    addresses: [...new Set(withAddress.flatMap(({ ipv4, ipv6 }) => [ipv4 ?? [], ipv6 ?? []].flat()))],
    pid,
    pidStartedAt,
    // Whoever takes a container's hardware address gets the frames that are sent to it.
    obstacle: unnamed ? "the engine does not name the hardware address of one of its interfaces" : undefined,
  };
}
