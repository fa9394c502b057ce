import { parseArgs } from "node:util";
import { exitCodes, OperatorError } from "./errors.ts";

/** A parsed command line. */
export type Command =
  | {
      readonly command: "serve";
      readonly configPath: string | undefined;
      readonly overrides: Overrides;
      /** Path of the guard's socket. */
      readonly guard?: string;
    }
  | {
      readonly command: "guard";
      readonly configPath: string | undefined;
      readonly settingsDirectory: string | undefined;
    }
  | {
      readonly command: "check";
      readonly configPath: string | undefined;
      readonly configOnly: boolean;
      readonly guard?: string;
      readonly json: boolean;
      /** Also send a request from each bridge. */
      readonly probe: boolean;
    }
  | {
      readonly command: "status";
      readonly configPath: string | undefined;
      readonly json: boolean;
      readonly watch: boolean;
    }
  | {
      readonly command: "explain";
      readonly configPath: string | undefined;
      readonly container: string;
      readonly guard?: string;
      readonly json: boolean;
    }
  | {
      readonly command: "firewall";
      readonly action: "apply" | "remove" | "status" | "render";
      readonly configPath: string | undefined;
      readonly settingsDirectory: string | undefined;
      readonly backend: "nftables" | "iptables" | undefined;
      readonly json: boolean;
      /** status: also send a request from each bridge. */
      readonly probe: boolean;
    }
  /** Not for people: what a probe runs in its network namespace. `order` is JSON. */
  | { readonly command: "probe-request"; readonly order: string }
  | { readonly command: "version" }
  | { readonly command: "help" };

/** Values of the predecessors' flags, which override config.json, under the configuration's names. */
export type Overrides = {
  readonly listen?: string;
  readonly defaultRoleArn?: string;
  readonly defaultPolicy?: string;
  readonly metadataEndpoint?: string;
  readonly dockerHost?: string;
  readonly verbose?: boolean;
  readonly passthrough?: false;
};

export const usage = `Gives every Docker container on an EC2 host its own IAM role.

Usage:
  ec2metaproxy [serve] [-c FILE] [--guard SOCKET]
                                          run the proxy
  ec2metaproxy guard [-c FILE]            run the guard, which keeps containers apart for the proxy
  ec2metaproxy check [--config-only | --probe]
                                          check the configuration and this host
  ec2metaproxy status [--json] [--watch]  show what the running proxy serves, and what is wrong
  ec2metaproxy explain CONTAINER|ADDRESS [--json]
                                          show which role a container gets, and why
  ec2metaproxy firewall apply|remove|status|render
                                          manage the rules that redirect containers' requests to the proxy
  ec2metaproxy --version | --help

Options:
  -c, --config FILE          default /etc/ec2metaproxy/config.json
      --guard SOCKET         serve: learn of the containers from the guard's socket instead of the engines
                             check, explain: that socket, default that of the running proxy or the packages
      --config-only          check: validate the file and do nothing else
      --probe                check, firewall status: send a request from each bridge, as a container would (root)
      --json                 check, status, explain, firewall: print JSON
      --watch                status: print it again every two seconds, until interrupted
      --settings DIRECTORY   firewall, guard: directory of firewall.conf and firewall.d, default /etc/ec2metaproxy
      --backend NAME         firewall: nftables or iptables; overrides the settings' BACKEND

serve also takes the flags of earlier programs of this kind; they override the file:
  -s, --server ADDRESS         listen
  -r, --default-iam-role ARN   the role of containers that request none
      --default-iam-policy JSON  defaultPolicy
      --metadata-url URL       metadataEndpoint (also -meta-data-api)
      --docker-endpoint HOST   dockerHost
      --disable-upstream       passthrough.enabled = false
      --verbose                verbose

Exit codes: 0 success, 1 a problem was found, 64 wrong usage, 69 something outside is missing or does not answer,
70 a bug, 78 the configuration must be edited.
See ec2metaproxy(8), ec2metaproxy.json(5) and ec2metaproxy-firewall.conf(5).`;

const options = {
  config: { type: "string", short: "c" },
  guard: { type: "string" },
  "config-only": { type: "boolean" },
  probe: { type: "boolean" },
  json: { type: "boolean" },
  watch: { type: "boolean" },
  settings: { type: "string" },
  backend: { type: "string" },
  server: { type: "string", short: "s" },
  "default-iam-role": { type: "string", short: "r" },
  "default-iam-policy": { type: "string" },
  "metadata-url": { type: "string" },
  "meta-data-api": { type: "string" },
  "docker-endpoint": { type: "string" },
  "disable-upstream": { type: "boolean" },
  verbose: { type: "boolean" },
  version: { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const;

type OptionName = keyof typeof options;

const legacyFlags = [
  "server",
  "default-iam-role",
  "default-iam-policy",
  "metadata-url",
  "meta-data-api",
  "docker-endpoint",
  "disable-upstream",
  "verbose",
] as const;

/** The options of each command, besides --config. */
const optionsOf: Readonly<Record<string, readonly OptionName[]>> = {
  serve: ["guard", ...legacyFlags],
  guard: ["settings"],
  check: ["config-only", "guard", "json", "probe"],
  status: ["json", "watch"],
  explain: ["guard", "json"],
  firewall: ["settings", "backend", "json", "probe"],
  "probe-request": [],
};

/**
 * Parses the arguments; pure.
 * @throws OperatorError with exit code 64.
 */
export function parse(argv: readonly string[]): Command {
  const { values, positionals } = read(argv);
  if (values.version) return { command: "version" };
  if (values.help || positionals[0] === "help") return { command: "help" };
  const [command = "serve", ...operands] = positionals;
  // Every object has a member `constructor`, which is no command.
  const allowed = Object.hasOwn(optionsOf, command) ? optionsOf[command] : undefined;
  if (allowed === undefined) throw wrong(`there is no command "${command}"`);
  for (const option of Object.keys(values)) {
    if (option !== "config" && !(allowed as readonly string[]).includes(option)) {
      throw wrong(`${command} takes no --${option}`);
    }
  }
  const configPath = values.config;
  if (configPath === "") throw wrong("--config needs a file's path, and got an empty string");
  if (values.guard === "") throw wrong("--guard needs a socket's path, and got an empty string");
  const guard = values.guard === undefined ? {} : { guard: values.guard };
  if (values.settings === "") throw wrong("--settings needs a directory's path, and got an empty string");
  switch (command) {
    case "serve":
      none(command, operands);
      if (values.guard !== undefined && values["docker-endpoint"] !== undefined)
        throw wrong(
          "--guard and --docker-endpoint exclude each other: with a guard, serve contacts no engine",
        );
      return { command, configPath, overrides: overridesOf(values), ...guard };
    case "guard":
      none(command, operands);
      return { command, configPath, settingsDirectory: values.settings };
    case "check":
      none(command, operands);
      if (values["config-only"] && values.probe)
        throw wrong("--config-only and --probe exclude each other: the probe checks this host");
      return {
        command,
        configPath,
        configOnly: values["config-only"] ?? false,
        json: values.json ?? false,
        probe: values.probe ?? false,
        ...guard,
      };
    case "status":
      none(command, operands);
      return { command, configPath, json: values.json ?? false, watch: values.watch ?? false };
    case "explain": {
      const [container, ...more] = operands;
      if (container === undefined || container === "")
        throw wrong("explain needs a container's name, id or address");
      none(command, more);
      return { command, configPath, container, json: values.json ?? false, ...guard };
    }
    case "probe-request": {
      const [order = "", ...more] = operands;
      none(command, more);
      return { command, order };
    }
    default:
      return firewall(operands, values);
  }
}

type Values = ReturnType<typeof read>["values"];

function read(argv: readonly string[]) {
  try {
    // iam-docker's flags have one dash, and Go's flag package takes one or two. parseArgs would read a single
    // dash as a group of short options.
    const args = argv.map((arg) =>
      /^-(disable-upstream|meta-data-api|verbose|server)\b/.test(arg) ? `-${arg}` : arg,
    );
    return parseArgs({ args, options, allowPositionals: true, strict: true });
  } catch (error) {
    throw wrong(
      error instanceof Error ? error.message.replace(/\. To specify a positional.*$/s, "") : String(error),
    );
  }
}

function overridesOf(values: Values): Overrides {
  const metadataEndpoint = values["metadata-url"] ?? values["meta-data-api"];
  return {
    ...(values.server !== undefined && { listen: values.server }),
    ...(values["default-iam-role"] !== undefined && { defaultRoleArn: values["default-iam-role"] }),
    ...(values["default-iam-policy"] !== undefined && { defaultPolicy: values["default-iam-policy"] }),
    ...(metadataEndpoint !== undefined && { metadataEndpoint }),
    ...(values["docker-endpoint"] !== undefined && { dockerHost: values["docker-endpoint"] }),
    ...(values.verbose && { verbose: true }),
    ...(values["disable-upstream"] && { passthrough: false as const }),
  };
}

function firewall(operands: readonly string[], values: Values): Command {
  const [action, ...more] = operands;
  if (action !== "apply" && action !== "remove" && action !== "status" && action !== "render") {
    throw wrong(
      `firewall needs one of apply, remove, status, render${action === undefined ? "" : `, not "${action}"`}`,
    );
  }
  none(`firewall ${action}`, more);
  if (values.probe && action !== "status") throw wrong(`firewall ${action} takes no --probe`);
  const backend = values.backend;
  if (backend !== undefined && backend !== "nftables" && backend !== "iptables") {
    throw wrong(`--backend is nftables or iptables, not "${backend}"`);
  }
  return {
    command: "firewall",
    action,
    configPath: values.config,
    settingsDirectory: values.settings,
    backend,
    json: values.json ?? false,
    probe: values.probe ?? false,
  };
}

function none(command: string, operands: readonly string[]): void {
  if (operands.length > 0) throw wrong(`${command} takes no operand "${operands.join(" ")}"`);
}

function wrong(message: string): OperatorError {
  return new OperatorError(message, {
    hint: "ec2metaproxy --help shows the usage.",
    exitCode: exitCodes.usage,
  });
}
