import type { ChildProcess } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { decode, type GuardMessage } from "../../src/guard/protocol.ts";
import { EngineStandIn, idOf, type StandInContainer } from "../support/engine/stand-in.ts";
import { World } from "./world.ts";

const main = new URL("../../src/main.ts", import.meta.url).pathname;
const forge = new URL("forge.py", import.meta.url).pathname;
const bridge = { name: "docker0", container: "victim", net: 1 } as const;
type Published = Extract<GuardMessage, { type: "container" }>;

/** A host with a bridge and containers, an engine, and the real guard. */
export class GuardScene implements AsyncDisposable {
  readonly world: World;
  readonly engine: EngineStandIn;
  readonly directory: string;
  /** The lines of the guard's log. */
  readonly log: string[] = [];
  /** By container id, as last published. */
  readonly published = new Map<string, Published>();
  #guard: ChildProcess | undefined;
  #forger: ChildProcess | undefined;
  readonly #sleepers: ChildProcess[] = [];
  #reader: Socket | undefined;

  private constructor(world: World, engine: EngineStandIn, directory: string) {
    this.world = world;
    this.engine = engine;
    this.directory = directory;
  }

  static async make(): Promise<GuardScene> {
    const world = await World.make();
    const scene = new GuardScene(
      world,
      await EngineStandIn.listen(),
      await mkdtemp(join(tmpdir(), "guard-")),
    );
    for (const folder of ["run", "state", "settings"]) await mkdir(join(scene.directory, folder));
    await writeFile(
      scene.path("config.json"),
      JSON.stringify({ dockerHost: scene.engine.host, verbose: true }),
    );
    world.addBridge(bridge);
    world.addContainer(bridge, "attacker", 3);
    for (const name of ["victim", "attacker"])
      await world.tell(name, { do: "listen", protocol: "tcp", address: "::", port: 7001, banner: name });
    return scene;
  }

  path(...names: readonly string[]): string {
    return join(this.directory, ...names);
  }

  /** Starts the guard, and resolves when it is ready. */
  async startGuard(): Promise<void> {
    const environment = { RUNTIME_DIRECTORY: this.path("run"), STATE_DIRECTORY: this.path("state") };
    const guard = this.world.start(
      "host",
      environment,
      process.execPath,
      main,
      "guard",
      "-c",
      this.path("config.json"),
      "--settings",
      this.path("settings"),
    );
    this.#guard = guard;
    const ready = Promise.withResolvers<void>();
    guard.on("exit", (code) =>
      ready.reject(new Error(`the guard has ended with ${code}: ${this.log.join("\n")}`)),
    );
    ready.promise.catch(() => {
      // Not waited for once it was ready.
    });
    createInterface({ input: guard.stdout }).on("line", (line) => {
      this.log.push(line);
      if (line.startsWith("ready: ")) ready.resolve();
    });
    await ready.promise;
    this.#reader = connect(this.path("run", "containers.sock"));
    createInterface({ input: this.#reader }).on("line", (line) => {
      const message = decode(line);
      if (message.type === "container") this.published.set(message.container.id, message);
      else if (message.type === "gone") this.published.delete(message.id);
    });
    this.#reader.on("error", () => undefined);
  }

  /** `ip netns exec` has become the guard. */
  signal(name: NodeJS.Signals): void {
    this.#guard?.kill(name);
  }

  /** @returns its exit code */
  async stopGuard(name: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
    const guard = this.#guard;
    if (guard === undefined) return null;
    // systemd ends a whole control group. Here, the monitors of a killed guard would stay.
    const children = await readFile(`/proc/${guard.pid}/task/${guard.pid}/children`, "utf8").catch(() => "");
    guard.removeAllListeners("exit");
    const exited = new Promise<number | null>((resolve) => guard.on("exit", resolve));
    guard.kill(name);
    this.#reader?.destroy();
    this.#guard = undefined;
    const code = await exited;
    for (const child of children.split(" ").filter(Boolean)) {
      try {
        process.kill(Number(child), "SIGTERM");
      } catch {
        // It has ended by itself.
      }
    }
    return code;
  }

  /** What the engine says about a container of the world. `last` is the last part of its addresses. */
  container(name: string, last: number, pid = this.world.pid(name)): StandInContainer {
    const mac = this.world.mac(name, "eth0");
    const networks = { bridge: { ipv4: `172.30.1.${last}`, ipv6: `fd30:1::${last}`, mac } };
    return { id: idOf(name), name, networks, pid };
  }

  get victim(): StandInContainer {
    return this.container("victim", 2);
  }

  /** One more container, with a process that does nothing. */
  addSleeper(name: string, last: number): StandInContainer {
    this.world.addContainer(bridge, name, last);
    const sleeper = this.world.start(name, {}, "sleep", "600");
    this.#sleepers.push(sleeper);
    return this.container(name, last, sleeper.pid);
  }

  /** Applies the base rules, as ec2metaproxy-firewall.service does. */
  applyFirewall(): void {
    const files = ["-c", this.path("config.json"), "--settings", this.path("settings")];
    this.world.exec("host", process.execPath, main, "firewall", "apply", ...files);
  }

  /** Whether the host believes the attacker, which says by ARP that it has the victim's address. */
  async believesAttacker(): Promise<boolean> {
    const { world } = this;
    if (this.#forger === undefined) {
      world.sysctl("host", `net.ipv4.neigh.${bridge.name}.locktime=0`);
      const forger = world.spawn("attacker", "python3", forge, "eth0");
      this.#forger = forger;
      // A frame with an address that nobody has shows that it is running.
      const unused = "02:42:99:99:99:98";
      await until("the forger", () => {
        forger.stdin?.write(`odd from=${unused} to=${world.mac("host", bridge.name)}\n`);
        return world.exec("host", "bridge", "fdb", "show").includes(unused);
      });
    }
    const entry = ["172.30.1.2", "dev", bridge.name] as const;
    world.ip("host", "neigh", "replace", ...entry, "lladdr", "02:00:00:00:00:99", "nud", "stale");
    const words = ["source=172.30.1.2", "target=172.30.1.1", `to=${world.mac("host", bridge.name)}`];
    for (let tries = 0; tries < 5; tries++) {
      this.#forger.stdin?.write(`arp ${words.join(" ")}\n`);
      await delay(40);
      if (world.ip("host", "neigh", "show", ...entry).includes(world.mac("attacker", "eth0"))) return true;
    }
    return false;
  }

  protection(name: string): Published["protection"] | undefined {
    return this.published.get(idOf(name))?.protection;
  }

  /** What is in a set of the lock, undefined if there is none. */
  set(name: string): readonly string[] | undefined {
    try {
      const listing = this.world.exec(
        "host",
        "nft",
        "-j",
        "list",
        "set",
        "bridge",
        "ec2metaproxy_lock",
        name,
      );
      const { nftables } = JSON.parse(listing) as {
        readonly nftables: readonly { readonly set?: { readonly elem?: readonly unknown[] } }[]; // nft's own form
      };
      return (nftables.find((entry) => entry.set !== undefined)?.set?.elem ?? []).map((one) =>
        JSON.stringify(one),
      );
    } catch {
      return undefined;
    }
  }

  /** Lists the names of tables. */
  tables(): string {
    return this.world.exec("host", "nft", "list", "tables");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopGuard("SIGKILL");
    this.#forger?.stdin?.end();
    for (const sleeper of this.#sleepers) sleeper.kill("SIGKILL");
    await this.engine[Symbol.asyncDispose]();
    await this.world[Symbol.asyncDispose]();
    await rm(this.directory, { recursive: true });
  }
}

/** Polls, and returns how long it took in milliseconds. */
export async function until(what: string, holds: () => boolean, timeoutMs = 10_000): Promise<number> {
  const startedAt = performance.now();
  while (!holds()) {
    if (performance.now() - startedAt > timeoutMs) throw new Error(`timed out waiting for ${what}`);
    await delay(2);
  }
  return performance.now() - startedAt;
}
