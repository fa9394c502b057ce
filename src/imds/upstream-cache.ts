import type { Answer } from "./answers.ts";
import { KeptAnswers, type KeptLimits } from "./upstream-kept.ts";

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

const briefMs = 5000;

/** Of one container. The 25 dated versions times every path below them are some 2,000 answers: nobody needs them all. */
const mostKept: KeptLimits = { entries: 512, bytes: 1024 * 1024 };
/** All containers together: room for all that a real service has. */
const mostKeptInAll: KeptLimits = { entries: 4096, bytes: 16 * 1024 * 1024 };
/** "No such path" is true of endlessly many paths, so these have a room of their own, and a small one. */
const mostAbsent: KeptLimits = { entries: 64, bytes: 128 * 1024 };
const mostAbsentInAll: KeptLimits = { entries: 1024, bytes: 2 * 1024 * 1024 };

/**
 * Answers of the real service, shared by all containers, so that a thousand of them do not use up the 1,024 packets a second that an
 * instance may exchange with it.
 */
export class UpstreamCache {
  readonly #keepMs: number;
  readonly #present: KeptAnswers;
  readonly #absent: KeptAnswers;

  /** `limits` of one container, `total` of all; `now` in milliseconds, of a clock that is never set back */
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

  /** @param asker the container's id; undefined: the proxy itself */
  get(path: string, asker: string | undefined): Answer | undefined {
    return this.#present.get(path, asker) ?? this.#absent.get(path, asker);
  }

  /**
   * @param owner whose question it was
   * @param shared whether others asked too
   */
  keep(path: string, answer: Answer, owner: string | undefined, shared: boolean): void {
    const forMs = this.#lifetimeMs(path, answer);
    if (forMs <= 0) return;
    (answer.status === 200 ? this.#present : this.#absent).keep(path, answer, forMs, owner, shared);
  }

  get size(): { readonly entries: number; readonly bytes: number } {
    const [present, absent] = [this.#present.size, this.#absent.size];
    return { entries: present.entries + absent.entries, bytes: present.bytes + absent.bytes };
  }

  #lifetimeMs(path: string, answer: Answer): number {
    const kind = sharing(path);
    if (kind === "joined" || kind === "alone") return 0;
    if (answer.status === 200 && kind === "kept") return this.#keepMs;
    // What is not there may come: an instance that boots has not all its metadata at once.
    return answer.status === 200 || answer.status === 404 ? Math.min(this.#keepMs, briefMs) : 0;
  }
}
