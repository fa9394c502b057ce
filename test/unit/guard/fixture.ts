import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Container } from "../../../src/containers/container.ts";
import { Directory } from "../../../src/containers/directory.ts";
import type { Change } from "../../../src/engine/sync.ts";
import type { FollowedEngine, HostState } from "../../../src/guard/protocol.ts";
import { type PublishedContainer, Publisher } from "../../../src/guard/publisher.ts";
import { GuardSubscriber } from "../../../src/guard/subscriber.ts";
import type { Log } from "../../../src/log.ts";

export const owner = "unix:///var/run/docker.sock";
export const locked = { locked: true, reason: "" } as const;

export function container(digit: string, last: number, more: Partial<Container> = {}): Container {
  return {
    id: digit.repeat(64),
    name: `c${digit}`,
    image: "app:1",
    imageId: "sha256:1",
    labels: Object.assign(Object.create(null), { "ec2metaproxy.RoleAlias": "db" }),
    env: { IAM_ROLE: "db" },
    user: "",
    attachments: [
      { network: "bridge", ipv4: `172.17.0.${last}`, ipv6: undefined, mac: `02:42:ac:11:00:0${last}` },
    ],
    pid: 100 + last,
    pidStartedAt: 5_000 + last,
    risks: ["net-admin"],
    source: "engine",
    ...more,
  };
}

/** A guard that publishes what the test puts into `published`, on a real socket. */
export class GivenGuard implements AsyncDisposable {
  readonly path: string;
  readonly published = new Map<string, PublishedContainer>();
  engines: FollowedEngine[] = [{ host: owner, connected: true, since: 1 }];
  host: HostState = {
    firewall: { state: "in-force", since: 1, reason: "" },
    lockTrouble: "",
  };
  refreshes = 0;
  /** What the publisher has reported about its socket. */
  readonly lost: (string | undefined)[] = [];
  onRefresh: () => Promise<void> = async () => undefined;
  guard: Publisher;

  protected constructor(directory: string) {
    this.path = join(directory, "containers.sock");
    this.guard = this.#publisher();
  }

  /** @param containers that are published from the beginning */
  static async listen(...containers: readonly Container[]): Promise<GivenGuard> {
    const given = new GivenGuard(await folder());
    for (const one of containers) given.put(one);
    await given.guard.listen(given.path);
    return given;
  }

  put(one: Container, protection: PublishedContainer["protection"] = locked): PublishedContainer {
    const published = { owner, container: one, protection };
    this.published.set(one.id, published);
    return published;
  }

  publish(one: Container, protection?: PublishedContainer["protection"]): void {
    this.guard.container(this.put(one, protection));
  }

  end(one: Container): void {
    this.published.delete(one.id);
    this.guard.gone(owner, one.id);
  }

  /** A guard that takes the place of one that has ended. */
  async restart(): Promise<void> {
    this.guard = this.#publisher();
    await this.guard.listen(this.path);
  }

  #publisher(): Publisher {
    return new Publisher({
      version: "1.1.0",
      engines: () => this.engines,
      host: () => this.host,
      containers: () => this.published.values(),
      refresh: () => {
        this.refreshes += 1;
        return this.onRefresh();
      },
      onSocketLost: (reason) => void this.lost.push(reason),
      socketCheckMs: 20,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.guard.close();
    await rm(dirname(this.path), { recursive: true, force: true });
  }
}

/** That guard, and a proxy's directory that follows it. */
export class GuardAndProxy extends GivenGuard {
  readonly directory = new Directory();
  readonly changes: Change[] = [];
  readonly logged: string[] = [];
  /** Added to the clock of the proxy. */
  skewMs = 0;
  readonly proxy: GuardSubscriber;

  private constructor(folder: string, times: Times) {
    super(folder);
    const line = (_fields: unknown, text: string) => void this.logged.push(text);
    const log: Log = { debug: () => undefined, info: line, warn: line, error: line };
    const now = () => 1_000_000 + performance.now() + this.skewMs;
    this.proxy = new GuardSubscriber({
      path: this.path,
      directory: this.directory,
      log,
      onChange: (change) => void this.changes.push(change),
      lockLastsMs: 80_000,
      now,
      wallNow: now,
      times,
    });
  }

  /** @param containers that are published from the beginning */
  static start(...containers: readonly Container[]): Promise<GuardAndProxy> {
    return GuardAndProxy.startWith({}, ...containers);
  }

  static async startWith(times: Times, ...containers: readonly Container[]): Promise<GuardAndProxy> {
    const both = new GuardAndProxy(await folder(), times);
    for (const one of containers) both.put(one);
    await both.guard.listen(both.path);
    await both.proxy.settled;
    return both;
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await this.proxy.close();
    await super[Symbol.asyncDispose]();
  }
}

type Times = NonNullable<ConstructorParameters<typeof GuardSubscriber>[0]["times"]>;

/** Not tap's folder: a unix socket's path has at most 107 bytes. */
function folder(): Promise<string> {
  return mkdtemp(join(tmpdir(), "guard-"));
}

export async function until(holds: () => boolean): Promise<void> {
  for (let tries = 0; !holds(); tries++) {
    if (tries > 500) throw new Error("it has not come true in 5 s");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
