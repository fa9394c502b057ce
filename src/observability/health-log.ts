import type { Log } from "../log.ts";
import { shortId } from "../roles/template.ts";
import type { Health, HealthPart } from "./health.ts";

/** What is logged where it arises: by the subscriber, the engines' connections, and the reload. */
const loggedElsewhere: ReadonlySet<HealthPart> = new Set(["configuration", "containers", "engine", "guard"]);
/** Lines for containers at once. An outage concerns all of them. */
const maxLines = 20;

type Failing = {
  readonly id: string;
  readonly name: string;
  readonly message: string;
  readonly hint: string;
};

/** Logs what becomes unhealthy, and what is well again: once each, and not at every look. */
export class HealthLog {
  readonly #log: Log;
  readonly #parts = new Set<HealthPart>();
  /** The failing containers that were logged, by id. */
  readonly #containers = new Map<string, string>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** @param containers those that are failing */
  note({ problems }: Pick<Health, "problems">, containers: readonly Failing[]): void {
    const failing = new Set(problems.map(({ part }) => part));
    for (const { part, message, hint } of problems) {
      if (this.#parts.has(part) || loggedElsewhere.has(part)) continue;
      this.#parts.add(part);
      this.#log.error({ code: "unhealthy", part, ...cure(hint) }, `unhealthy: ${message}`);
    }
    for (const part of this.#parts)
      if (!failing.has(part)) {
        this.#parts.delete(part);
        this.#log.info({ part }, "healthy again");
      }
    this.#noteContainers(containers);
  }

  #noteContainers(containers: readonly Failing[]): void {
    const added = containers.filter(({ id }) => !this.#containers.has(id));
    for (const { id, name, message, hint } of added.slice(0, maxLines))
      this.#log.error(
        { code: "not-served", container: name, id: shortId(id), ...cure(hint) },
        `not served: the container ${message}`,
      );
    if (added.length > maxLines)
      this.#log.error(
        { code: "not-served", containers: added.length - maxLines },
        "not served: more containers, for which see `ec2metaproxy status`",
      );
    for (const { id, name } of added) this.#containers.set(id, name);
    const now = new Set(containers.map(({ id }) => id));
    const gone = [...this.#containers].filter(([id]) => !now.has(id));
    for (const [id, name] of gone) {
      this.#containers.delete(id);
      if (gone.length <= maxLines)
        this.#log.info({ container: name, id: shortId(id) }, "no longer among those that are not served");
    }
    if (gone.length > maxLines)
      this.#log.info({ containers: gone.length }, "no longer among those that are not served");
  }
}

function cure(hint: string): { readonly cure?: string } {
  return hint === "" ? {} : { cure: hint };
}
