import { readFile } from "node:fs/promises";
import { exitCodes, OperatorError, type Problem } from "../errors.ts";
import { parseJson } from "./json.ts";
import { problemsOf } from "./problems.ts";
import { type Conflict, relations } from "./relations.ts";
import { type Config, configSchema } from "./schema.ts";

/** Where the packages put it. */
export const defaultConfigPath = "/etc/ec2metaproxy/config.json";

/** What others than the schema have to say about a configuration that it accepts. */
export type Check = (config: Config) => readonly Conflict[];

/**
 * Reads and validates config.json.
 * @throws OperatorError with exit code 78 and every problem at once; nothing is guessed or ignored.
 */
export async function loadConfig(path: string, more: Check = () => []): Promise<Config> {
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    throw new OperatorError(`reading ${path}`, {
      hint: readHint(error, path),
      exitCode: exitCodes.configuration,
      cause: error,
    });
  });
  const config = parseConfig(text, path, more);
  if (!Array.isArray(config)) return config as Config; // the other arm of the union; Array.isArray does not narrow readonly arrays
  const count = config.length === 1 ? "1 problem" : `${config.length} problems`;
  throw new OperatorError(`${path} has ${count}`, {
    problems: config,
    exitCode: exitCodes.configuration,
    hint: `Edit ${path}.`,
  });
}

/** A configuration, or everything that is wrong with it. `file` is how the text is called in problems. */
export function parseConfig(text: string, file: string, more: Check = () => []): Config | readonly Problem[] {
  if (text.trim() === "") {
    return [
      {
        where: file,
        message: "the file is empty",
        hint: 'Write at least {} ("serve nobody a role"); ec2metaproxy.json(5) shows more.',
      },
    ];
  }
  const json = parseJson(text.replace(/^\uFEFF/, ""), file);
  if (!("value" in json)) return json;
  const parsed = configSchema.safeParse(json.value);
  if (!parsed.success) return problemsOf(parsed.error, json, file);
  const problems = [...relations(parsed.data), ...more(parsed.data)].map(({ path, message, hint }) => ({
    where: `${file}:${json.line(path)}: ${path.join(".")}`,
    message,
    hint,
  }));
  return problems.length > 0 ? problems : parsed.data;
}

function readHint(error: unknown, path: string): string {
  switch ((error as NodeJS.ErrnoException).code /* node:fs rejects with errno exceptions only */) {
    case "ENOENT":
      return `Create ${path}, or name another file with -c.`;
    case "EISDIR":
      return "That is a directory; name the file in it, e.g. config.json.";
    case "EACCES":
      return `Let the service's user read it: chown root:ec2metaproxy ${path}; chmod 0640 ${path}.`;
    default:
      return "";
  }
}

/** What the process takes from its environment; read once, here. Empty variables count as unset, as in the AWS SDKs. */
export type Environment = {
  readonly notifySocket: string | undefined;
  readonly listenPid: string | undefined;
  readonly listenFds: string | undefined;
  readonly listenFdNames: string | undefined;
  /** Absolute path where a restart of the service finds what it kept; systemd's RuntimeDirectory=. */
  readonly runtimeDirectory: string | undefined;
  readonly awsRegion: string | undefined;
  readonly stsEndpoint: string | undefined;
  readonly accessKeyId: string | undefined;
  readonly secretAccessKey: string | undefined;
  readonly sessionToken: string | undefined;
  readonly dockerHost: string | undefined;
  /** Set where systemd connects our output to the journal, which then reads priority prefixes. */
  readonly journalStream: string | undefined;
  /** For STS only; the metadata service is never asked through a proxy. */
  readonly proxy: { readonly HTTPS_PROXY?: string; readonly HTTP_PROXY?: string; readonly NO_PROXY?: string };
};

export function readEnvironment(variables: NodeJS.ProcessEnv = process.env): Environment {
  const read = (...names: readonly string[]) =>
    names.map((name) => variables[name]).find((value) => value !== undefined && value !== "");
  return {
    notifySocket: read("NOTIFY_SOCKET"),
    listenPid: read("LISTEN_PID"),
    listenFds: read("LISTEN_FDS"),
    listenFdNames: read("LISTEN_FDNAMES"),
    runtimeDirectory: read("RUNTIME_DIRECTORY"),
    awsRegion: read("AWS_REGION", "AWS_DEFAULT_REGION"),
    stsEndpoint: read("AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"),
    accessKeyId: read("AWS_ACCESS_KEY_ID"),
    secretAccessKey: read("AWS_SECRET_ACCESS_KEY"),
    sessionToken: read("AWS_SESSION_TOKEN"),
    dockerHost: read("DOCKER_HOST"),
    journalStream: read("JOURNAL_STREAM"),
    proxy: Object.fromEntries(
      (["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"] as const)
        .map((name) => [name, read(name, name.toLowerCase())])
        .filter(([, value]) => value !== undefined),
    ),
  };
}
