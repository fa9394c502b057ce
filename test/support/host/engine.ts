import type { CommandOptions, CommandResult } from "./command.ts";
import type { TestHost } from "./host.ts";

/** An image that every host has: busybox with a shell. */
const image = "bb:latest";

export type ContainerOptions = {
  /** At least two characters. */
  readonly name: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string>>;
  /** A network's name, `host`, `none` or `container:NAME`. Default: the engine's. */
  readonly network?: string;
  /** Further arguments for `run`, such as `--cap-add=NET_ADMIN`. */
  readonly args?: readonly string[];
  readonly image?: string;
  /** Default: sleeps for an hour, and exits at once when the container is stopped. */
  readonly command?: readonly string[];
};

/** A container engine on the host, used through its command line. */
export type Engine = {
  readonly cli: "docker" | "podman";
  /** Starts a container in the background and resolves with its id, 64 hex digits. */
  run(options: ContainerOptions): Promise<string>;
  /** Stops and removes it. */
  remove(...containers: readonly string[]): Promise<void>;
  /** The container's pid on the host; 0 if it is not running. */
  pid(container: string): Promise<number>;
  /** IPv4 addresses, by network. */
  addresses(container: string): Promise<Readonly<Record<string, string>>>;
  /**
   * Runs a command of the host in the container's network namespace: a real client without an image for it.
   * To the kernel its sockets are the container's.
   */
  inNetwork(
    container: string,
    command: readonly string[] | string,
    options?: CommandOptions,
  ): Promise<CommandResult>;
  /** Runs a command in the container itself. */
  inside(
    container: string,
    command: readonly string[] | string,
    options?: CommandOptions,
  ): Promise<CommandResult>;
  /** Any other command of the engine; resolves with its trimmed output. */
  call(...args: readonly string[]): Promise<string>;
};

/** The engine, after importing `image`. */
export async function containerEngine(host: TestHost, cli: "docker" | "podman"): Promise<Engine> {
  const call = async (...args: readonly string[]): Promise<string> =>
    (await host.exec([cli, ...args])).stdout.trim();
  const { code } = await host.exec([cli, "image", "inspect", image], { check: false });
  // Podman would look for a short name in registries.
  const imported = cli === "podman" ? `localhost/${image}` : image;
  if (code !== 0) await call("import", "/usr/local/lib/testhost/bb.tar", imported);
  if (cli === "podman") {
    await host.exec(["systemctl", "start", "podman.socket"]);
    // Docker sets the FORWARD policy to drop. netavark's accept does not override that: since Podman 5 it is
    // in its own table.
    await host.exec(["iptables", "--wait", "--policy", "FORWARD", "ACCEPT"]);
  }

  const pid = async (container: string): Promise<number> =>
    Number(await call("inspect", "--type=container", "--format={{.State.Pid}}", container));
  const toArguments = (command: readonly string[] | string): readonly string[] =>
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
      if (target === 0) throw new Error(`entering the network of ${container}: it is not running`);
      return await host.exec(
        ["nsenter", "--target", String(target), "--net", ...toArguments(command)],
        options,
      );
    },
    inside: async (container, command, options) =>
      await host.exec([cli, "exec", container, ...toArguments(command)], options),
  };
}

function runArguments(options: ContainerOptions, imported: string): readonly string[] {
  const args = ["run", "--detach", `--name=${options.name}`];
  for (const [key, value] of Object.entries(options.labels ?? {})) args.push(`--label=${key}=${value}`);
  for (const [key, value] of Object.entries(options.env ?? {})) args.push(`--env=${key}=${value}`);
  if (options.network !== undefined) args.push(`--network=${options.network}`);
  // As PID 1, sleep would ignore SIGTERM, and `stop` would take ten seconds.
  const command = options.command ?? ["/bin/sh", "-c", 'trap "exit 0" TERM; sleep 3600 & wait'];
  return [...args, ...(options.args ?? []), options.image ?? imported, ...command];
}
