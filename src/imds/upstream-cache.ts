import type { Answer } from "./answers.ts";
import { KeptAnswers, type KeptLimits } from "./upstream-kept.ts";

/** How answers for a path may be reused. */
export type Sharing =
  /** Cached for `cacheSeconds`: it does not change while an instance runs. */
  | "kept"
  /** Cached for seconds: a listing that changes when a feature is added or removed. */
  | "briefly"
  /** Concurrent requests share one request to the service; nothing is cached. */
  | "joined"
  /** Each client has a request of its own, and the answer is streamed. */
  | "alone";

/**
 * Under meta-data/. Public addresses, network interfaces, tags, events, spot notices and states do change on
 * a running instance.
 */
const unchanging: ReadonlySet<string> = new Set(
  // biome-ignore format: a list
  ["ami-id", "ami-launch-index", "ami-manifest-path", "hibernation", "instance-id", "instance-life-cycle", "instance-type", "kernel-id", "local-hostname",
    "local-ipv4", "mac", "placement", "product-codes", "profile", "ramdisk-id", "reservation-id", "services", "system"],
);

/** @param path canonical, from classify */
export function sharing(path: string): Sharing {
  const [, , tree = "", category = ""] = path.split("/");
  if (tree === "user-data" || tree === "dynamic") return "alone";
  if (category === "") return "briefly";
  return unchanging.has(category) ? "kept" : "joined";
}

const briefMs = 5000;

/**
 * For one container. All paths under all 25 dated versions are some 2,000 answers; no container needs them
 * all.
 */
const mostKept: KeptLimits = { entries: 512, bytes: 1024 * 1024 };
/** For all containers together: room for everything that a real service has. */
const mostKeptInAll: KeptLimits = { entries: 4096, bytes: 16 * 1024 * 1024 };
/** There is no end of paths that do not exist, so their 404s have a small cache of their own. */
const mostAbsent: KeptLimits = { entries: 64, bytes: 128 * 1024 };
const mostAbsentInAll: KeptLimits = { entries: 1024, bytes: 2 * 1024 * 1024 };

/**
 * Caches the real service's answers for all containers, so that a thousand of them do not use up the 1,024
 * packets a second that an instance may exchange with it.
 */
export class UpstreamCache {
  readonly #keepMs: number;
  readonly #present: KeptAnswers;
  readonly #absent: KeptAnswers;

  /** `limits` for one container, `total` for all; `now` is milliseconds of a monotonic clock. */
  constructor(options: {
    readonly cacheSeconds: number;
    readonly now: () => number;
    readonly limits?: KeptLimits;
    readonly total?: KeptLimits;
  }) {
    const { now, limits = mostKept, total = mostKeptInAll } = options;
    this.#keepMs = options.cacheSeconds * 1000;
    this.#present = new KeptAnswers({ now, each: limits, total });
    this.#absent = new KeptAnswers({ now, each: mostAbsent, total: mostAbsentInAll });
  }

  /** @param container id of the container that asks; undefined for the proxy itself */
  get(path: string, container: string | undefined): Answer | undefined {
    return this.#present.get(path, container) ?? this.#absent.get(path, container);
  }

  /**
   * @param owner the container that asked
   * @param shared whether others asked at the same time
   */
  keep(path: string, answer: Answer, owner: string | undefined, shared: boolean): void {
    const forMs = this.#lifetimeMs(path, answer);
    if (forMs <= 0) return;
    (answer.status === 200 ? this.#present : this.#absent).keep(path, answer, forMs, owner, shared);
  }

  #lifetimeMs(path: string, answer: Answer): number {
    const kind = sharing(path);
    if (kind === "joined" || kind === "alone") return 0;
    if (answer.status === 200 && kind === "kept") return this.#keepMs;
    // A missing path may appear: a booting instance does not have all its metadata at once.
    return answer.status === 200 || answer.status === 404 ? Math.min(this.#keepMs, briefMs) : 0;
  }
}
