import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Container } from "../../../src/containers/container.ts";
import { Directory } from "../../../src/containers/directory.ts";
import type { Change } from "../../../src/engine/sync.ts";
import type { FollowedEngine } from "../../../src/guard/protocol.ts";
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

/** A guard that publishes what the test puts into `published`, and a proxy's directory that follows it. */
export class GuardAndProxy implements AsyncDisposable {
  readonly path: string;
  readonly published = new Map<string, PublishedContainer>();
  readonly engines: FollowedEngine[] = [{ host: owner, connected: true, since: 1 }];
  readonly directory = new Directory();
  readonly changes: Change[] = [];
  readonly logged: string[] = [];
  refreshes = 0;
  onRefresh: () => Promise<void> = async () => undefined;
  nowMs = 1_000_000;
  guard: Publisher;
  readonly proxy: GuardSubscriber;

  private constructor(directory: string) {
    this.path = join(directory, "containers.sock");
    this.guard = this.#publisher();
    const line = (_fields: unknown, text: string) => void this.logged.push(text);
    const log: Log = { debug: () => undefined, info: line, warn: line, error: line };
    this.proxy = new GuardSubscriber({
      path: this.path,
      directory: this.directory,
      log,
      onChange: (change) => void this.changes.push(change),
      lockLastsMs: 80_000,
      now: () => this.nowMs,
      wallNow: () => this.nowMs,
    });
  }

  /** @param containers that are published from the beginning */
  static async start(...containers: readonly Container[]): Promise<GuardAndProxy> {
    // Not tap's folder: a unix socket's path has at most 107 bytes.
    const both = new GuardAndProxy(await mkdtemp(join(tmpdir(), "guard-")));
    for (const one of containers) both.put(one);
    await both.guard.listen(both.path);
    await both.proxy.settled;
    return both;
  }

  put(one: Container, protection: PublishedContainer["protection"] = locked): PublishedContainer {
    const published = { owner, container: one, protection };
    this.published.set(one.id, published);
    return published;
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
      containers: () => this.published.values(),
      refresh: () => {
        this.refreshes += 1;
        return this.onRefresh();
      },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.proxy.close();
    await this.guard.close();
    await rm(dirname(this.path), { recursive: true });
  }
}

export async function until(holds: () => boolean): Promise<void> {
  for (let tries = 0; !holds(); tries++) {
    if (tries > 500) throw new Error("it has not come true in 5 s");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
