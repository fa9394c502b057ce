import type { ChildProcess } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import type { Test as Tap } from "tap";
import { processStartedAt } from "../../src/containers/proc.ts";
import { PortLock } from "../../src/firewall/port-lock.ts";
import { World } from "./world.ts";

const docker = { name: "docker0", container: "victim", net: 1 } as const;
export const victim = { ipv4: "172.30.1.2", ipv6: "fd30:1::2" } as const;
export const attacker = { ipv4: "172.30.1.3", ipv6: "fd30:1::3" } as const;
export const bystander = { ipv4: "172.30.1.4", ipv6: "fd30:1::4" } as const;
/** Given to nobody by any engine: virtual addresses that move between containers. */
export const shared = { ipv4: "172.30.1.77", ipv6: "fd30:1::77" } as const;

type Sender = "attacker" | "victim";

/** A frame, and how the bystander or the bridge shows that it was taken for true. */
export type Frame = {
  readonly what: string;
  readonly from: Sender;
  readonly kind: "arp" | "na" | "ns" | "syn" | "odd";
  readonly source: string;
  /** The address that an NA or NS is about. */
  readonly about?: string;
  readonly more?: readonly string[];
};

/** A bridge with three containers, and the lock that is to keep them apart. */
export class LockScene implements AsyncDisposable {
  readonly world: World;
  readonly lock: PortLock;
  linkLocal = "";
  readonly #forgers = new Map<Sender, ChildProcess>();
  #port = 20_000;

  private constructor(world: World) {
    this.world = world;
    this.lock = new PortLock({
      run: world.hostRun((name) => name),
      procRoot: "/proc",
      namespacesFolder: "/run/netns",
      onChange: () => undefined,
      onTrouble: (error) => {
        if (error !== undefined && !/another hardware address/.test(error)) throw new Error(error);
      },
      schedule: () => () => undefined,
      random: Math.random,
      now: () => performance.now(),
    });
    this.lock.start();
  }

  static async make(): Promise<LockScene> {
    const world = await World.make();
    const scene = new LockScene(world);
    world.addBridge(docker);
    world.addContainer(docker, "attacker", 3);
    world.addContainer(docker, "bystander", 4);
    world.sysctl("bystander", "net.ipv4.neigh.eth0.locktime=0");
    for (const name of ["victim", "attacker"] as const) {
      await world.tell(name, { do: "listen", protocol: "tcp", address: "::", port: 7001, banner: name });
      const forger = new URL("forge.py", import.meta.url).pathname;
      scene.#forgers.set(name, world.spawn(name, "python3", forger, "eth0"));
    }
    await world.tell("bystander", { do: "listen", protocol: "tcp", address: "::", port: 7000, banner: "by" });
    while (scene.linkLocal === "") {
      scene.linkLocal = /inet6 (fe80\S+)\//.exec(world.ip("victim", "-6", "addr", "show"))?.[1] ?? "";
      await delay(50);
    }
    return scene;
  }

  async target(name: "victim" | "attacker" | "bystander") {
    const { ipv4, ipv6 } = { victim, attacker, bystander }[name];
    const pid = this.world.pid(name);
    const macs = [this.world.mac(name, "eth0")];
    const pidStartedAt = await processStartedAt("/proc", pid);
    return { macs, addresses: [ipv4, ipv6], pid, pidStartedAt, obstacle: undefined };
  }

  async lockAll(): Promise<void> {
    for (const name of ["victim", "attacker", "bystander"] as const)
      this.lock.set(name, await this.target(name));
    await this.lock.settled();
  }

  async expect(t: Tap, when: string, believed: readonly Frame[], refused: readonly Frame[]): Promise<void> {
    const wrong: string[] = [];
    for (const [frames, expected] of [
      [believed, true],
      [refused, false],
    ] as const) {
      for (const frame of frames) {
        let seen = await this.#believed(frame);
        for (let again = 0; expected && !seen && again < 3; again++) seen = await this.#believed(frame);
        if (seen !== expected) wrong.push(`${frame.what}: ${seen ? "believed" : "not believed"}`);
      }
    }
    t.comment(
      `table: ${when}: ${believed.length} frames believed, ${refused.length} refused, ${wrong.length} not as expected`,
    );
    t.strictSame(wrong, [], `${when}: all are as expected`);
  }

  async #believed(frame: Frame): Promise<boolean> {
    const { world } = this;
    const target = frame.source.includes(":") ? bystander.ipv6 : bystander.ipv4;
    const about = frame.about ?? target;
    const mac = frame.more?.find((word) => word.startsWith("from="))?.slice(5) ?? "";
    const words = [`source=${frame.source}`, `target=${target}`, `about=${about}`, ...(frame.more ?? [])];
    const send = (...more: readonly string[]) =>
      this.#forgers
        .get(frame.from)
        ?.stdin?.write(
          `${[frame.kind, `to=${world.mac("bystander", "eth0")}`, ...words, ...more].join(" ")}\n`,
        );
    switch (frame.kind) {
      case "syn": {
        world.ip(
          "bystander",
          "neigh",
          "replace",
          frame.source,
          "lladdr",
          nobody,
          "dev",
          "eth0",
          "nud",
          "permanent",
        );
        const port = ++this.#port;
        send(`port=${port}`);
        return soon(() => world.exec("bystander", "ss", "-Hnt", "state", "syn-recv").includes(`:${port}`));
      }
      case "odd": {
        const fdb = () => world.exec("host", "bridge", "fdb", "show", "dev", "veth-1-3");
        world.exec("host", "sh", "-c", `bridge fdb del ${mac} dev veth-1-3 master 2>/dev/null || true`);
        send();
        return soon(() => fdb().includes(mac));
      }
      default: {
        const address = frame.kind === "na" ? about : frame.source;
        world.ip("bystander", "neigh", "replace", address, "lladdr", nobody, "dev", "eth0", "nud", "stale");
        await delay(12);
        send();
        const own = world.mac(frame.from, "eth0");
        return soon(() => world.ip("bystander", "neigh", "show", address, "dev", "eth0").includes(own));
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lock.close();
    for (const forger of this.#forgers.values()) forger.stdin?.end();
    await this.world[Symbol.asyncDispose]();
  }
}

/** Nobody's hardware address. */
const nobody = "02:00:00:00:00:99";

/** A frame takes microseconds; the machine may be busy. */
async function soon(holds: () => boolean): Promise<boolean> {
  for (const waitMs of [2, 5, 20, 40]) {
    await delay(waitMs);
    if (holds()) return true;
  }
  return false;
}
