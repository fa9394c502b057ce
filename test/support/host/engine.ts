import type { CommandOptions, CommandResult } from "./command.ts";
import type { TestHost } from "./host.ts";

/** The image that every host has: busybox, with a shell. */
const image = "bb:latest";

export type ContainerOptions = {
  /** Two characters at least. */
  readonly name: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string>>;
  /** A network's name, `host`, `none` or `container:NAME`. Default: the engine's. */
  readonly network?: string;
  /** More arguments for `run`, before the image: `--cap-add=NET_ADMIN`. */
  readonly args?: readonly string[];
  readonly image?: string;
  /** Default: sleeps for an hour, and ends at once when it is stopped. */
  readonly command?: readonly string[];
};

/** A container engine on the host, asked through its own command line. */
export type Engine = {
  readonly cli: "docker" | "podman";
  /** Starts a container in the background; resolves with its id, 64 hex digits. */
  run(options: ContainerOptions): Promise<string>;
  /** Stops and removes it. */
  remove(...containers: readonly string[]): Promise<void>;
  /** The pid that the host knows it by. 0 when it does not run. */
  pid(container: string): Promise<number>;
  /** IPv4 addresses, by network. */
  addresses(container: string): Promise<Readonly<Record<string, string>>>;
  /**
   * Runs a command of the host in the container's network: a real client without an image that has it.
   * For the kernel its sockets are the container's.
   */
  inNetwork(
    container: string,
    command: readonly string[] | string,
    options?: CommandOptions,
  ): Promise<CommandResult>;
  /** Runs a command of the image in the container. */
  inside(
    container: string,
    command: readonly string[] | string,
    options?: CommandOptions,
  ): Promise<CommandResult>;
  /** Any other command of the engine; resolves with what it printed, trimmed. */
  call(...args: readonly string[]): Promise<string>;
};

/** The engine, with `image` imported. */
export async function containerEngine(host: TestHost, cli: "docker" | "podman"): Promise<Engine> {
  const call = async (...args: readonly string[]): Promise<string> =>
    (await host.exec([cli, ...args])).stdout.trim();
  const { code } = await host.exec([cli, "image", "inspect", image], { check: false });
  // Under its full name for podman, which would look for a short one in registries.
  const imported = cli === "podman" ? `localhost/${image}` : image;
  if (code !== 0) await call("import", "/usr/local/lib/testhost/bb.tar", imported);
  if (cli === "podman") {
    await host.exec(["systemctl", "start", "podman.socket"]);
    // Docker's forward policy is to drop, and netavark's own accept (from podman 5 on in a table of its own) does not overrule it.
    await host.exec(["iptables", "--wait", "--policy", "FORWARD", "ACCEPT"]);
  }

  const pid = async (container: string): Promise<number> =>
    Number(await call("inspect", "--type=container", "--format={{.State.Pid}}", container));
  const asWords = (command: readonly string[] | string): readonly string[] =>
    typeof command === "string" ? ["sh", "-c", command] : command;

  return {
    cli,
    call,
    pid,
    run: async (options) => {
      const { stdout } = await host.exec([cli, ...runArguments(options, imported)]);
      return stdout.trim();
    },
    remove: async (...containers) => {
      if (containers.length > 0)
        await call("rm", "--force", ...(cli === "podman" ? ["--time=0"] : []), ...containers);
    },
    addresses: async (container) => {
      const format =
        "--format={{range $name, $at := .NetworkSettings.Networks}}{{$name}} {{$at.IPAddress}}\n{{end}}";
      const lines = (await call("inspect", "--type=container", format, container)).split("\n");
      const pairs = lines
        .map((line) => line.trim().split(" "))
        .filter((pair): pair is [string, string] => pair.length === 2);
      return Object.fromEntries(pairs);
    },
    inNetwork: async (container, command, options) => {
      const target = await pid(container);
      if (target === 0) throw new Error(`entering the network of ${container}: it does not run`);
      return await host.exec(["nsenter", "--target", String(target), "--net", ...asWords(command)], options);
    },
    inside: async (container, command, options) =>
      await host.exec([cli, "exec", container, ...asWords(command)], options),
  };
}

function runArguments(options: ContainerOptions, imported: string): readonly string[] {
  const words = ["run", "--detach", `--name=${options.name}`];
  for (const [key, value] of Object.entries(options.labels ?? {})) words.push(`--label=${key}=${value}`);
  for (const [key, value] of Object.entries(options.env ?? {})) words.push(`--env=${key}=${value}`);
  if (options.network !== undefined) words.push(`--network=${options.network}`);
  // As PID 1, sleep would ignore SIGTERM and let `stop` wait for ten seconds.
  const command = options.command ?? ["/bin/sh", "-c", 'trap "exit 0" TERM; sleep 3600 & wait'];
  return [...words, ...(options.args ?? []), options.image ?? imported, ...command];
}
