import type { Answer } from "./errors.ts";

/** How answers for a path may be reused. */
export type Sharing =
  /** Kept for a while: it does not change while an instance runs. */
  | "kept"
  /** Kept for a moment: a listing that changes when a feature comes or goes. */
  | "briefly"
  /** One question to the service answers all who ask meanwhile; nothing is kept. */
  | "joined"
  /** Asked for each client anew, and streamed. */
  | "alone";

/** Below meta-data/. Public addresses, network interfaces, tags, events, spot notices and states do change on a running instance. */
const unchanging: ReadonlySet<string> = new Set(
  // biome-ignore format: a list
  ["ami-id", "ami-launch-index", "ami-manifest-path", "hibernation", "instance-id", "instance-life-cycle", "instance-type", "kernel-id", "local-hostname",
    "local-ipv4", "mac", "placement", "product-codes", "profile", "ramdisk-id", "reservation-id", "services", "system"],
);

/** @param path canonical, as classify gives it */
export function sharing(path: string): Sharing {
  const [, , tree = "", category = ""] = path.split("/");
  if (tree === "user-data" || tree === "dynamic") return "alone";
  if (category === "") return "briefly";
  return unchanging.has(category) ? "kept" : "joined";
}

export type CacheLimits = { readonly entries: number; readonly bytes: number };

type Entry = { readonly answer: Answer; readonly until: number; readonly cost: number };

const briefMs = 5000;
/** What an entry costs beside its body. */
const overheadBytes = 1024;

/**
 * Answers of the real service, shared by all containers, so that a thousand of them do not use up the 1,024 packets a second that an
 * instance may exchange with it. In order of arrival: at a limit the oldest go.
 */
export class UpstreamCache {
  readonly #keepMs: number;
  readonly #now: () => number;
  readonly #limits: CacheLimits;
  readonly #entries = new Map<string, Entry>();
  readonly #flights = new Map<string, Promise<Answer>>();
  #bytes = 0;

  constructor(options: { cacheSeconds: number; now: () => number; limits?: CacheLimits }) {
    this.#keepMs = options.cacheSeconds * 1000;
    this.#now = options.now;
    this.#limits = options.limits ?? { entries: 1000, bytes: 4 * 1024 * 1024 };
  }

  get(path: string): Answer | undefined {
    const entry = this.#entries.get(path);
    if (entry === undefined) return undefined;
    if (this.#now() < entry.until) return entry.answer;
    this.#drop(path, entry);
    return undefined;
  }

  /** The kept answer, or the one that is on its way, or a new one from `fetch`. A failure is told to all who wait, and not kept. */
  read(path: string, fetch: () => Promise<Answer>): Promise<Answer> {
    const kept = this.get(path);
    if (kept !== undefined) return Promise.resolve(kept);
    const flying = this.#flights.get(path);
    if (flying !== undefined) return flying;
    const flight = fetch()
      .then((answer) => {
        this.#keep(path, answer);
        return answer;
      })
      .finally(() => this.#flights.delete(path));
    this.#flights.set(path, flight);
    return flight;
  }

  get size(): { readonly entries: number; readonly bytes: number } {
    return { entries: this.#entries.size, bytes: this.#bytes };
  }

  #keep(path: string, answer: Answer): void {
    const cost = overheadBytes + answer.body.length;
    const forMs = this.#lifetimeMs(path, answer);
    if (forMs <= 0 || cost > this.#limits.bytes / 16) return;
    const old = this.#entries.get(path);
    if (old !== undefined) this.#drop(path, old);
    this.#entries.set(path, { answer, until: this.#now() + forMs, cost });
    this.#bytes += cost;
    for (const [oldest, entry] of this.#entries) {
      if (this.#entries.size <= this.#limits.entries && this.#bytes <= this.#limits.bytes) break;
      this.#drop(oldest, entry);
    }
  }

  #lifetimeMs(path: string, answer: Answer): number {
    const kind = sharing(path);
    if (kind === "joined" || kind === "alone") return 0;
    if (answer.status === 200 && kind === "kept") return this.#keepMs;
    // What is not there may come: an instance that boots has not all its metadata at once.
    return answer.status === 200 || answer.status === 404 ? Math.min(this.#keepMs, briefMs) : 0;
  }

  #drop(path: string, entry: Entry): void {
    this.#entries.delete(path);
    this.#bytes -= entry.cost;
  }
}
