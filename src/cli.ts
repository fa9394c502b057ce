import { parseArgs } from "node:util";
import { didYouMean } from "./config/suggest.ts";
import { exitCodes, OperatorError } from "./errors.ts";
import { type CommandName, commandNames } from "./usage.ts";

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
  /** Of the program, or of one command. */
  | { readonly command: "help"; readonly of: CommandName | undefined };

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
  version: [],
};

/**
 * Parses the arguments; pure.
 * @throws OperatorError with exit code 64.
 */
export function parse(argv: readonly string[]): Command {
  const { values, positionals } = read(argv);
  if (values.version) return { command: "version" };
  if (values.help || positionals[0] === "help") return help(positionals);
  const [command = "serve", ...operands] = positionals;
  // Every object has a member `constructor`, which is no command.
  const allowed: readonly string[] | undefined = Object.hasOwn(optionsOf, command)
    ? optionsOf[command]
    : undefined;
  if (allowed === undefined) throw noCommand(command);
  for (const option of Object.keys(values)) {
    if (option !== "config" && !allowed.includes(option))
      throw wrong(`${command} takes no --${option}`, didYouMean(option, allowed), command);
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
    case "version":
      none(command, operands);
      return { command };
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
    const message =
      error instanceof Error ? error.message.replace(/\. To specify a positional.*$/s, "") : String(error);
    const unknown = /^Unknown option '--?([^']+)'/.exec(message)?.[1];
    const suggested = unknown === undefined ? "" : didYouMean(unknown, Object.keys(options));
    throw wrong(message, suggested.replace(/"(.+)"/, '"--$1"'));
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
      didYouMean(action ?? "", ["apply", "remove", "status", "render"]),
      "firewall",
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

/** `help check`, `check --help`, or only one of them. */
function help(positionals: readonly string[]): Command {
  const [first, second] = positionals;
  const topic = first === "help" ? second : first;
  const of = commandNames.find((name) => name === topic);
  if (topic !== undefined && of === undefined) throw noCommand(topic);
  return { command: "help", of };
}

function noCommand(command: string): OperatorError {
  return wrong(`there is no command "${command}"`, didYouMean(command, commandNames));
}

/** @param command whose help has the answer; by default the program's */
function wrong(message: string, suggestion = "", command = ""): OperatorError {
  const usage = `ec2metaproxy ${command === "" ? "" : `${command} `}--help shows the usage.`;
  return new OperatorError(message, {
    hint: suggestion === "" ? usage : `${suggestion} ${usage}`,
    exitCode: exitCodes.usage,
  });
}
