import { randomBytes } from "node:crypto";
import { dirname, join } from "node:path";
import { type CommandOptions, type CommandResult, RunningCommand, runCommand } from "./command.ts";
import { createControlGroup } from "./control-group.ts";
import { endWithThisProcess } from "./end-with-process.ts";
import { type Bind, type BootedSystem, startNspawn } from "./nspawn.ts";
import { layRoot } from "./overlay.ts";
import { identify, isAlive, signal } from "./process-identity.ts";
import { rootFileSystem, type Suite } from "./root.ts";
import {
  controlGroupName,
  createRunDirectory,
  removeLeftovers,
  removeRunDirectory,
  writeRecord,
} from "./run-directory.ts";
import { type Poll, type WaitOptions, waitFor } from "./wait.ts";

export type BootOptions = {
  readonly suite: Suite;
  /** Letters, digits and hyphens; a random suffix is added. Default: the suite. */
  readonly name?: string;
  /**
   * `legacy` (cgroup v1, bookworm only): for tests of limits on a machine whose controllers are v1. Default:
   * `unified`.
   */
  readonly cgroup?: "unified" | "legacy";
  /** In addition to the repository, which is mounted read-only at `repository`. */
  readonly binds?: readonly Bind[];
  /** For progress messages. */
  readonly log?: (text: string) => void;
};

/** Path of this repository on the host, read-only. */
export const repository = "/opt/ec2metaproxy-src";

/** The Node that the package ships, by its path on the host. */
export const node = `${repository}/node_modules/node-linux-${process.arch}/bin/node`;

const environment = {
  DEBIAN_FRONTEND: "noninteractive",
  HOME: "/root",
  LANG: "C.UTF-8",
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
};

/**
 * A Debian machine with systemd as PID 1, its own network, Docker, Podman and netfilter. Tests may change
 * anything on it.
 */
export class TestHost implements AsyncDisposable {
  readonly name: string;
  readonly suite: Suite;
  readonly #directory: string;
  readonly #options: BootOptions;
  #system: BootedSystem | undefined;
  #stopWatching: () => void = () => {};

  private constructor(name: string, options: BootOptions) {
    this.name = name;
    this.suite = options.suite;
    this.#options = options;
    this.#directory = createRunDirectory(name);
  }

  /** Resolves when systemd reports that all units have started, Docker among them. */
  static async boot(options: BootOptions): Promise<TestHost> {
    removeLeftovers();
    const base = await rootFileSystem(options.suite, options.log);
    const host = new TestHost(`${options.name ?? options.suite}-${randomBytes(3).toString("hex")}`, options);
    host.#stopWatching = endWithThisProcess(() => removeRunDirectory(host.#directory));
    try {
      layRoot(base, host.#directory);
      await host.#start();
      return host;
    } catch (error) {
      await host[Symbol.asyncDispose]();
      throw error;
    }
  }

  /**
   * The host's root directory on this machine. While the host is up, its mounts are included (/run, /tmp, the
   * engines' storage). Do not follow absolute symbolic links in it, such as /var/run: they lead to this
   * machine's files.
   */
  get root(): string {
    return this.#system === undefined ? join(this.#directory, "root") : `/proc/${this.#system.init.pid}/root`;
  }

  /** The pid on this machine of the host's PID 1. */
  get pid(): number {
    return this.#up().init.pid;
  }

  get isUp(): boolean {
    return this.#system !== undefined && isAlive(this.#system.init);
  }

  /**
   * A string is for `sh -c`. Rejects on an exit code other than 0 unless `check: false`. Default limit: one
   * minute.
   */
  async exec(command: readonly string[] | string, options: CommandOptions = {}): Promise<CommandResult> {
    return await runCommand(this.#entering(command), { ...options, env: { ...environment, ...options.env } });
  }

  /**
   * Runs a command beside the test. It ends with its time limit (default: ten minutes), by `stop`, or with
   * the host.
   */
  spawn(command: readonly string[] | string, options: CommandOptions = {}): RunningCommand {
    return new RunningCommand(this.#entering(command), {
      timeoutMs: 600_000,
      ...options,
      env: { ...environment, ...options.env },
    });
  }

  /** The last `lines` of the journal since the host's first boot, of all units or of one. */
  async journal(unit?: string, lines = 10_000): Promise<string> {
    const selection = [
      "--no-pager",
      "--output=short-precise",
      `--lines=${lines}`,
      ...(unit === undefined ? [] : [`--unit=${unit}`]),
    ];
    if (this.isUp) return (await this.exec(["journalctl", ...selection])).stdout;
    const directory = `--directory=${join(this.#directory, "root/var/log/journal")}`;
    return (await runCommand(["journalctl", directory, ...selection], { check: false })).stdout;
  }

  /** Writes a file and creates its folder. `mode` is an argument of chmod. */
  async write(path: string, content: string, mode = "0644"): Promise<void> {
    const script = 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1"';
    await this.exec(["sh", "-c", script, "sh", path, mode], { stdin: content });
  }

  async read(path: string): Promise<string> {
    return (await this.exec(["cat", path])).stdout;
  }

  /** Copies a file or folder from this machine to `destination` on the host, with owners and modes. */
  async copyIn(path: string, destination: string): Promise<void> {
    await this.exec(["mkdir", "-p", dirname(destination)]);
    await runCommand(["cp", "-a", "-T", path, join(this.root, destination)]);
  }

  /** See `waitFor` in wait.ts. */
  async waitFor<T>(poll: Poll<T>, options: WaitOptions): Promise<T> {
    return await waitFor(poll, options);
  }

  /** Shuts the host down in order and boots it again: only what is on disk stays. */
  async reboot(): Promise<void> {
    await this.poweroff();
    await this.#start();
  }

  /** Shuts the host down in order. After half a minute it is killed. */
  async poweroff(): Promise<void> {
    const { init } = this.#up();
    await this.exec(["systemctl", "poweroff"], { check: false, timeoutMs: 10_000 }).catch(() => {});
    await this.waitFor(() => !isAlive(init), { timeoutMs: 30_000, what: "the host to shut down" }).catch(
      () => {},
    );
    await this.pullThePlug();
  }

  /** Kills the host, as a power failure would. Its disk stays: `start` boots it again. */
  async pullThePlug(): Promise<void> {
    const system = this.#system;
    if (system === undefined) return;
    signal(system.init, "SIGKILL");
    await this.waitFor(() => system.nspawn.exitCode !== null || system.nspawn.signalCode !== null, {
      timeoutMs: 10_000,
      what: "systemd-nspawn to end",
    }).catch(() => system.nspawn.kill("SIGKILL"));
    this.#system = undefined;
    writeRecord(this.#directory, []);
  }

  async start(): Promise<void> {
    if (!this.isUp) await this.#start();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#system?.nspawn.unref();
    this.#system = undefined;
    this.#stopWatching();
    const failures = removeRunDirectory(this.#directory);
    if (failures.length > 0) throw new Error(`removing the test host ${this.name}: ${failures.join("; ")}`);
  }

  async #start(): Promise<void> {
    const cgroup = this.#options.cgroup ?? "unified";
    const storage = ["docker", "containerd", "containers"].map((engine) => ({
      source: join(this.#directory, engine),
      target: `/var/lib/${engine}`,
      readOnly: false,
    }));
    const system = await startNspawn({
      root: join(this.#directory, "root"),
      machine: this.name,
      controlGroups: createControlGroup(controlGroupName(this.#directory)),
      unifiedControlGroups: cgroup === "unified",
      binds: [
        { source: join(import.meta.dirname, "../../.."), target: repository, readOnly: true },
        ...storage,
        ...(this.#options.binds ?? []),
      ],
      console: join(this.#directory, "console.log"),
    });
    this.#system = system;
    // The test process must not wait for the host to end.
    system.nspawn.unref();
    const nspawn = identify(system.nspawn.pid ?? 0);
    writeRecord(this.#directory, nspawn === undefined ? [system.init] : [system.init, nspawn]);
    if (cgroup === "legacy") await this.#openControllers();
    await this.waitFor(
      async () =>
        /^(running|degraded)$/m.test(
          (await this.exec(["systemctl", "is-system-running"], { check: false })).stdout,
        ),
      {
        timeoutMs: 60_000,
        what: "systemd to have started all units",
      },
    );
  }

  /** nspawn mounts cgroup v1 controllers read-only, and refuses a plain remount. */
  async #openControllers(): Promise<void> {
    const controllers = "cpu cpuacct memory devices freezer blkio pids cpuset";
    await this.exec(`for c in ${controllers}; do mount -o remount,bind,rw /sys/fs/cgroup/$c || exit; done`);
  }

  #entering(command: readonly string[] | string): readonly string[] {
    const inner = typeof command === "string" ? ["sh", "-c", command] : command;
    // tap adds NODE_OPTIONS to every child process, for coverage. It names files that do not exist on the
    // host.
    return ["nsenter", "--target", String(this.pid), "--all", "--", "env", "--unset=NODE_OPTIONS", ...inner];
  }

  #up(): BootedSystem {
    if (this.#system === undefined) throw new Error(`using the test host ${this.name}: it is not up`);
    return this.#system;
  }
}
