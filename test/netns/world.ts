import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createInterface } from "node:readline";
import {
  type Follow,
  follow,
  type Hold,
  hold,
  type Outcome,
  type Run,
  run,
} from "../../src/firewall/command.ts";
import type { Answer, Order } from "./agent.ts";

/** A bridge of the host with one container behind it. */
export type Bridge = { readonly name: string; readonly container: string; readonly net: number };

export const metadata = { ipv4: "169.254.169.254", ipv6: "fd00:ec2::254" } as const;
export type Family = keyof typeof metadata;

/** The addresses of the host on a bridge's network, and on the LAN. */
export const hostOn = (net: number) => ({ ipv4: `172.30.${net}.1`, ipv6: `fd30:${net}::1` });
export const hostOnLan = { ipv4: "192.0.2.1", ipv6: "2001:db8::1" } as const;

/**
 * A host with bridges, containers, a LAN and the metadata service, each in its own network namespace. The
 * host forwards, and the metadata service has a route back, so that a missing rule shows as an answer of
 * "imds".
 */
export class World {
  readonly #prefix: string;
  readonly #agents = new Map<string, Agent>();

  private constructor(prefix: string) {
    this.#prefix = prefix;
  }

  static async make(): Promise<World> {
    const world = new World(`ec2mp-${randomBytes(4).toString("hex")}`);
    for (const name of ["host", "aws", "lan"]) world.#namespace(name);
    world.#link("host", "eth-aws", "aws", "eth0", 200);
    world.#link("host", "eth0", "lan", "eth0", 201);
    world.ip("aws", "addr", "add", `${metadata.ipv4}/32`, "dev", "eth0");
    world.ip("aws", "addr", "add", `${metadata.ipv6}/128`, "dev", "eth0", "nodad");
    world.ip("host", "addr", "add", `${hostOnLan.ipv4}/24`, "dev", "eth0");
    world.ip("host", "addr", "add", `${hostOnLan.ipv6}/64`, "dev", "eth0", "nodad");
    world.ip("lan", "route", "add", "default", "via", "172.30.201.1");
    world.ip("lan", "-6", "route", "add", "default", "via", "fd30:201::1");
    world.ip("aws", "route", "add", "default", "via", "172.30.200.1");
    world.ip("aws", "-6", "route", "add", "default", "via", "fd30:200::1");
    world.ip("host", "route", "add", `${metadata.ipv4}/32`, "via", "172.30.200.2");
    world.ip("host", "-6", "route", "add", `${metadata.ipv6}/128`, "via", "fd30:200::2");
    world.sysctl("host", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1");
    for (const address of Object.values(metadata)) {
      const listen = { do: "listen", address, banner: "imds" } as const;
      for (const port of [80, 8080]) await world.tell("aws", { ...listen, protocol: "tcp", port });
      for (const port of [53, 80]) await world.tell("aws", { ...listen, protocol: "udp", port });
    }
    for (const [port, banner] of [
      [18_000, "proxy"],
      [18_008, "credentials"],
      [18_009, "metrics"],
    ] as const) {
      await world.tell("host", { do: "listen", protocol: "tcp", address: "::", port, banner });
    }
    return world;
  }

  /** A bridge and a container on it, both with IPv4 and IPv6. */
  addBridge(bridge: Bridge): void {
    const { name, container, net } = bridge;
    this.ip("host", "link", "add", name, "type", "bridge");
    this.ip("host", "addr", "add", `${hostOn(net).ipv4}/24`, "dev", name);
    this.ip("host", "addr", "add", `${hostOn(net).ipv6}/64`, "dev", name, "nodad");
    this.ip("host", "link", "set", name, "up");
    this.addContainer(bridge, container, 2);
  }

  /** One more container on a bridge, `.last` of its networks. */
  addContainer({ name, net }: Bridge, container: string, last: number): void {
    this.#namespace(container);
    const veth = `veth-${net}-${last}`;
    this.#veth("host", veth, container, "eth0");
    this.ip("host", "link", "set", veth, "master", name, "up");
    this.ip(container, "addr", "add", `172.30.${net}.${last}/24`, "dev", "eth0");
    this.ip(container, "addr", "add", `fd30:${net}::${last}/64`, "dev", "eth0", "nodad");
    this.ip(container, "link", "set", "eth0", "up");
    this.ip(container, "route", "add", "default", "via", hostOn(net).ipv4);
    this.ip(container, "-6", "route", "add", "default", "via", hostOn(net).ipv6);
  }

  /** Runs a command of iproute2 in a namespace. */
  ip(where: string, ...args: readonly string[]): string {
    return execFileSync("ip", ["-n", this.#name(where), ...args], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  /** An interface's hardware address. */
  mac(where: string, name: string): string {
    return /link\/ether (\S+)/.exec(this.ip(where, "link", "show", "dev", name))?.[1] ?? "";
  }

  exec(where: string, command: string, ...args: readonly string[]): string {
    return execFileSync("ip", ["netns", "exec", this.#name(where), command, ...args], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  /** Starts a process in a namespace. The caller ends it by closing its standard input. */
  spawn(where: string, command: string, ...args: readonly string[]): ChildProcess {
    return spawn("ip", ["netns", "exec", this.#name(where), command, ...args], {
      stdio: ["pipe", "ignore", "inherit"],
    });
  }

  /** Starts a program in a namespace, with these variables and no others. The caller ends it. */
  start(where: string, environment: NodeJS.ProcessEnv, command: string, ...args: readonly string[]) {
    return spawn("ip", ["netns", "exec", this.#name(where), command, ...args], {
      stdio: ["ignore", "pipe", "inherit"],
      env: { PATH: process.env.PATH, ...environment },
    });
  }

  /** A process in the namespace: the agent that `tell` talks to, and has talked to before. */
  pid(where: string): number {
    const pid = this.#agents.get(`${where} 0`)?.pid;
    if (pid === undefined) throw new Error(`no agent runs in ${where}`);
    return pid;
  }

  sysctl(where: string, ...settings: readonly string[]): void {
    this.exec(where, "sysctl", "-q", "-w", ...settings);
  }

  /** Runs commands like the product does, in the host's namespace. `rename` selects a variant of iptables. */
  hostRun(rename: (command: string) => string): Run {
    return async (command, args, input, limitMs): Promise<Outcome> => {
      const inHost = ["netns", "exec", this.#name("host"), rename(command), ...args];
      const outcome = await run("ip", inHost, input, limitMs);
      if (outcome.kind === "ran" && /^exec of .* failed: No such file/m.test(outcome.stderr))
        return { kind: "missing" };
      return outcome;
    };
  }

  /** Holds processes and follows commands like the product does, in the host's namespace. */
  hostHold: Hold = (command, args) => hold("ip", ["netns", "exec", this.#name("host"), command, ...args]);
  hostFollow: Follow = (command, args, onLine, signal) =>
    follow("ip", ["netns", "exec", this.#name("host"), command, ...args], onLine, signal);

  /** @param uid the user to run as instead of root */
  tell(where: string, order: Order, uid?: number): Promise<Answer> {
    const key = `${where} ${uid ?? 0}`;
    let agent = this.#agents.get(key);
    if (agent === undefined) {
      agent = new Agent(this.#name(where), uid);
      this.#agents.set(key, agent);
    }
    return agent.tell(order);
  }

  /** `imds` if there is an echo reply. */
  async ping(where: string, address: string): Promise<Answer> {
    const child = spawn("ip", ["netns", "exec", this.#name(where), "ping", "-c1", "-W1", address], {
      stdio: "ignore",
    });
    const [code] = await once(child, "exit");
    return code === 0 ? "imds" : "nothing";
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const agent of this.#agents.values()) await agent.stop();
    const names = execFileSync("ip", ["netns", "list"], { encoding: "utf8" })
      .split("\n")
      .map((line) => line.split(" ")[0] ?? "");
    for (const name of names.filter((one) => one.startsWith(`${this.#prefix}-`)))
      execFileSync("ip", ["netns", "del", name]);
  }

  #name(where: string): string {
    return `${this.#prefix}-${where}`;
  }

  #namespace(where: string): void {
    execFileSync("ip", ["netns", "add", this.#name(where)]);
    this.ip(where, "link", "set", "lo", "up");
    // Addresses are usable at once, and ICMP errors are not rate-limited.
    this.sysctl(where, "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0");
    this.sysctl(where, "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0");
  }

  #veth(a: string, nameA: string, b: string, nameB: string): void {
    this.ip(a, "link", "add", nameA, "type", "veth", "peer", "name", nameB, "netns", this.#name(b));
  }

  /** A link with .1 and .2 of network `net` at its ends. */
  #link(a: string, nameA: string, b: string, nameB: string, net: number): void {
    this.#veth(a, nameA, b, nameB);
    for (const [where, name, last] of [
      [a, nameA, 1],
      [b, nameB, 2],
    ] as const) {
      this.ip(where, "addr", "add", `172.30.${net}.${last}/24`, "dev", name);
      this.ip(where, "addr", "add", `fd30:${net}::${last}/64`, "dev", name, "nodad");
      this.ip(where, "link", "set", name, "up");
    }
  }
}

/** One process in one namespace. */
class Agent {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #nextId = 0;

  constructor(namespace: string, uid: number | undefined) {
    const agent = new URL("agent.ts", import.meta.url).pathname;
    this.#child = spawn(
      "ip",
      ["netns", "exec", namespace, process.execPath, agent, ...(uid === undefined ? [] : [String(uid)])],
      {
        stdio: ["pipe", "pipe", "inherit"],
        // Without the variables of the test runner: another user cannot write to its directory.
        env: { PATH: process.env.PATH },
      },
    );
    const stdout = this.#child.stdout;
    if (stdout === null) throw new Error("the agent has no standard output");
    createInterface({ input: stdout }).on("line", (line) => {
      const { id, answer } = JSON.parse(line) as { readonly id: number; readonly answer: Answer }; // agent.ts wrote it
      this.#waiting.get(id)?.(answer);
      this.#waiting.delete(id);
    });
  }

  /** `ip netns exec` becomes the agent: it is the same process. */
  get pid(): number | undefined {
    return this.#child.pid;
  }

  tell(order: Order): Promise<Answer> {
    const id = this.#nextId++;
    const { promise, resolve } = Promise.withResolvers<Answer>();
    this.#waiting.set(id, resolve);
    this.#child.stdin?.write(`${JSON.stringify({ id, ...order })}\n`);
    return promise;
  }

  async stop(): Promise<void> {
    const exited = once(this.#child, "exit");
    this.#child.stdin?.end();
    await exited;
  }
}
