import { exitCodes, OperatorError, type Problem } from "../errors.ts";
import { environmentProblems, firstSet, ignoredVariables, proxyUrl } from "./environment.ts";
import { parseJson, type TextProblem } from "./json.ts";
import { pathText, problemsOf } from "./problems.ts";
import { readText } from "./read-text.ts";
import { type Conflict, relations, type Written } from "./relations.ts";
import { type Config, configSchema } from "./schema.ts";

/** Where the packages install it. */
export const defaultConfigPath = "/etc/ec2metaproxy/config.json";

/** A configuration, or every problem in it. */
export type ParsedConfig<Problem> =
  | { readonly ok: true; readonly config: Config }
  | { readonly ok: false; readonly problems: readonly Problem[] };

/**
 * Checks by code outside config/, on the file as written. They run even if the schema rejects a part of it.
 */
export type Check = (file: Written) => readonly Conflict[];

/**
 * Reads and validates config.json.
 * @throws OperatorError with exit code 78 and all problems at once; nothing is guessed or ignored
 */
export async function loadConfig(path: string, more: Check = () => []): Promise<Config> {
  const text = await readConfigText(path);
  if (typeof text !== "string") throw configurationError(path, [text]);
  const parsed = parseConfig(text, path, more);
  if (parsed.ok) return parsed.config;
  throw configurationError(path, parsed.problems);
}

/**
 * Returns the text of a configuration file, or a problem if it is too large or not UTF-8.
 * @throws OperatorError with exit code 78 if it cannot be read
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

/** Nobody reads more than these. */
const problemsShown = 100;

export function configurationError(path: string, problems: readonly Problem[]): OperatorError {
  const count = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
  const shown = problems.length > problemsShown ? `${count}; these are the first ${problemsShown}` : count;
  return new OperatorError(`${path} has ${shown}`, {
    problems: problems.slice(0, problemsShown),
    exitCode: exitCodes.configuration,
    hint: `Edit ${path}.`,
  });
}

/** @param file the name of the text in problems */
export function parseConfig(text: string, file: string, more: Check = () => []): ParsedConfig<Problem> {
  const parsed = readConfig(text, more);
  if (parsed.ok) return parsed;
  const problems = parsed.problems.map(({ line, path, message, hint }) => ({
    where: `${file}:${line}${path === undefined ? "" : `: ${pathText(path)}`}`,
    message,
    hint,
  }));
  return { ok: false, problems };
}

/** Like parseConfig, but the problems have their place as data. They are ordered by line. */
export function readConfig(text: string, more: Check): ParsedConfig<TextProblem> {
  if (text.trim() === "") {
    const problems = [
      {
        line: 1,
        path: undefined,
        message: "the file is empty",
        hint: "Write at least {}, which gives no container a role. ec2metaproxy.json(5) has examples.",
      },
    ];
    return { ok: false, problems };
  }
  const read = parseJson(text.replace(/^\uFEFF/, ""));
  if (!read.ok) return read;
  const { json } = read;
  const parsed = configSchema.safeParse(json.value);
  const rejected = parsed.success ? [] : problemsOf(parsed.error, json);
  const own = [...json.problems, ...rejected];
  const places = new Set(own.map(({ path }) => JSON.stringify(path)));
  const conflicts = [...relations(json), ...more(json)]
    // For a value that the schema rejects, a conflict would only repeat the problem.
    .filter(({ path, ofKey }) => ofKey === true || !places.has(JSON.stringify(path)))
    .map(({ path, message, hint }) => ({ line: json.line(path), path, message, hint }));
  const problems = [...own, ...conflicts].toSorted((a, b) => a.line - b.line);
  return parsed.success && problems.length === 0
    ? { ok: true, config: parsed.data }
    : { ok: false, problems };
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

/**
 * The environment variables that the process uses, read once, here. An empty variable counts as unset, as in
 * the AWS SDKs.
 */
export type Environment = {
  readonly notifySocket: string | undefined;
  readonly listenPid: string | undefined;
  readonly listenFds: string | undefined;
  readonly listenFdNames: string | undefined;
  /** Absolute path of the directory that is kept across restarts: systemd's RuntimeDirectory=. */
  readonly runtimeDirectory: string | undefined;
  /** Absolute path of the directory that is kept across boots: systemd's StateDirectory=. */
  readonly stateDirectory: string | undefined;
  readonly awsRegion: string | undefined;
  readonly stsEndpoint: string | undefined;
  readonly accessKeyId: string | undefined;
  readonly secretAccessKey: string | undefined;
  readonly sessionToken: string | undefined;
  readonly dockerHost: string | undefined;
  /** Set if systemd connects our output to the journal, which then interprets priority prefixes. */
  readonly journalStream: string | undefined;
  /** For STS only. Requests to the metadata service never go through a proxy. */
  readonly proxy: { readonly HTTPS_PROXY?: string; readonly HTTP_PROXY?: string; readonly NO_PROXY?: string };
  /** Path of a PEM file with the authorities to trust for STS. */
  readonly caBundlePath: string | undefined;
  /** Its content, once it has been read. */
  readonly caBundle: string | undefined;
  /** What is wrong with these, DOCKER_HOST and the content of files excepted. */
  readonly problems: readonly Problem[];
  /** Variables that are set although nothing here reads them. */
  readonly ignored: readonly Problem[];
};

export function readEnvironment(variables: NodeJS.ProcessEnv = process.env): Environment {
  const read = (...names: readonly string[]) => firstSet(variables, names)?.value;
  const proxy = (name: string) => {
    const value = read(name, name.toLowerCase());
    return value === undefined ? {} : { [name]: proxyUrl(value) };
  };
  const noProxy = read("NO_PROXY", "no_proxy");
  return {
    notifySocket: read("NOTIFY_SOCKET"),
    listenPid: read("LISTEN_PID"),
    listenFds: read("LISTEN_FDS"),
    listenFdNames: read("LISTEN_FDNAMES"),
    runtimeDirectory: read("RUNTIME_DIRECTORY"),
    stateDirectory: read("STATE_DIRECTORY"),
    awsRegion: read("AWS_REGION", "AWS_DEFAULT_REGION"),
    stsEndpoint: read("AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"),
    accessKeyId: read("AWS_ACCESS_KEY_ID"),
    secretAccessKey: read("AWS_SECRET_ACCESS_KEY"),
    sessionToken: read("AWS_SESSION_TOKEN"),
    dockerHost: read("DOCKER_HOST"),
    journalStream: read("JOURNAL_STREAM"),
    proxy: {
      ...proxy("HTTPS_PROXY"),
      ...proxy("HTTP_PROXY"),
      ...(noProxy !== undefined && { NO_PROXY: noProxy }),
    },
    caBundlePath: read("AWS_CA_BUNDLE"),
    caBundle: undefined,
    problems: environmentProblems(variables),
    ignored: ignoredVariables(variables),
  };
}
