import { exitCodes, OperatorError, type Problem } from "../errors.ts";
import { parseJson, type TextProblem } from "./json.ts";
import { pathText, problemsOf } from "./problems.ts";
import { readText } from "./read-text.ts";
import { type Conflict, relations, type Written } from "./relations.ts";
import { type Config, configSchema } from "./schema.ts";

/** Where the packages put it. */
export const defaultConfigPath = "/etc/ec2metaproxy/config.json";

/** What others than the schema have to say about what is written; asked although the schema rejects a part of it. */
export type Check = (file: Written) => readonly Conflict[];

/**
 * Reads and validates config.json.
 * @throws OperatorError with exit code 78 and every problem at once; nothing is guessed or ignored.
 */
export async function loadConfig(path: string, more: Check = () => []): Promise<Config> {
  const text = await readConfigText(path);
  const config = typeof text === "string" ? parseConfig(text, path, more) : [text];
  if (isConfig(config)) return config;
  throw configurationError(path, config);
}

/**
 * The text of a configuration file, or why it is no text.
 * @throws OperatorError with exit code 78 where it cannot be read.
 */
export async function readConfigText(path: string): Promise<string | Problem> {
  return readText(path).catch((error: unknown) => {
    throw new OperatorError(`reading ${path}`, {
      hint: readHint(error, path),
      exitCode: exitCodes.configuration,
      cause: error,
    });
  });
}

/** More than these nobody reads. */
const problemsShown = 100;

export function configurationError(path: string, problems: readonly Problem[]): OperatorError {
  const count = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
  const shown =
    problems.length > problemsShown ? `${count}; these are the first ${problemsShown} of them` : count;
  return new OperatorError(`${path} has ${shown}`, {
    problems: problems.slice(0, problemsShown),
    exitCode: exitCodes.configuration,
    hint: `Edit ${path}.`,
  });
}

/** A configuration, or everything that is wrong with it. `file` is how the text is called in problems. */
export function parseConfig(text: string, file: string, more: Check = () => []): Config | readonly Problem[] {
  const config = readConfig(text, more);
  if (isConfig(config)) return config;
  return config.map(({ line, path, message, hint }) => ({
    where: `${file}:${line}${path === undefined ? "" : `: ${pathText(path)}`}`,
    message,
    hint,
  }));
}

/** `Array.isArray` does not narrow readonly arrays. */
export function isConfig<Problems>(result: Config | readonly Problems[]): result is Config {
  return !Array.isArray(result);
}

/** The same with each problem's place as data, in the order of the lines. */
export function readConfig(text: string, more: Check): Config | readonly TextProblem[] {
  if (text.trim() === "") {
    return [
      {
        line: 1,
        path: undefined,
        message: "the file is empty",
        hint: 'Write at least {} ("serve nobody a role"); ec2metaproxy.json(5) shows more.',
      },
    ];
  }
  const json = parseJson(text.replace(/^\uFEFF/, ""));
  if (!("value" in json)) return json;
  const parsed = configSchema.safeParse(json.value);
  const rejected = parsed.success ? [] : problemsOf(parsed.error, json);
  const own = [...json.problems, ...rejected];
  const places = new Set(own.map(({ path }) => JSON.stringify(path)));
  const conflicts = [...relations(json), ...more(json)]
    // Of a value that the schema rejects, whatever else follows from it would be said twice.
    .filter(({ path, ofKey }) => ofKey === true || !places.has(JSON.stringify(path)))
    .map(({ path, message, hint }) => ({ line: json.line(path), path, message, hint }));
  const problems = [...own, ...conflicts].toSorted((a, b) => a.line - b.line);
  return parsed.success && problems.length === 0 ? parsed.data : problems;
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
