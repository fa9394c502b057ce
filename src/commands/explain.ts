import { join } from "node:path";
import type { Environment } from "../config/load.ts";
import type { Config } from "../config/schema.ts";
import { addressesOf, type Container } from "../containers/container.ts";
import type { Protection } from "../containers/protection.ts";
import { type ExitCode, exitCodes, explain as explainError, OperatorError } from "../errors.ts";
import type { Log } from "../log.ts";
import { adminSocketName, askAdmin, explainTarget } from "../observability/admin.ts";
import { decide } from "../roles/grant.ts";
import { rolePolicy } from "../roles/policy.ts";
import { shortId } from "../roles/template.ts";
import { jsonText, printable, quote } from "../text.ts";
import { hostClocks } from "./clocks.ts";
import { configuration } from "./configuration.ts";
import { containersNamed, type ExplainAnswer, whyNotAll } from "./explain-live.ts";
import { type Explanation, explanationOf } from "./explanation.ts";
import { explanationText } from "./explanation-text.ts";
import { viewGuard } from "./guard-view.ts";
import { takeInventory } from "./inventory.ts";
import { packagedRuntimeDirectory } from "./status.ts";

/**
 * Explains a container of this host: as the running proxy sees it, or else by configuration and engine. Exit
 * code 0 where it gets what it should, 1 where it does not.
 * @throws OperatorError unless exactly one container matches
 */
export async function explain(
  options: {
    readonly configPath: string | undefined;
    readonly container: string;
    readonly guard?: string;
    readonly json: boolean;
  },
  environment: Environment,
  print: (text: string) => void,
  log: Log,
): Promise<ExitCode> {
  const file = configuration(options.configPath);
  const { container, json } = options;
  const asked = await askProxy(container, environment);
  if (asked.kind === "answer") {
    const { matches, explanation, incomplete } = asked.answer;
    // Of another proxy than the one that the operator means, where -c names another file.
    if (options.configPath === undefined || explanation?.config === file.path) {
      if (explanation !== null) return show(explanation, json, print);
      exactlyOne(container, matches, incomplete);
    }
  }
  const config = await file.read();
  const [{ directory, engines }, guard] = await Promise.all([
    takeInventory(config, environment, log, hostClocks()),
    viewGuard(options.guard, environment),
  ]);
  const find = async (wanted: string) => {
    const found = containersNamed(directory, wanted);
    if (found.length === 0) exactlyOne(wanted, [], whyNotAll(engines));
    return found;
  };
  // A host without a guard has no lock that could be missing.
  const hasGuard =
    guard.silentBecause === undefined || "path" in guard.proxy || config.identityProof === "address";
  const protectionOf = (id: string) => (hasGuard ? guard.protectionOf(id) : undefined);
  const ownerOf = ({ networkOf }: Container) => {
    const [owner, ...others] = networkOf === undefined ? [] : directory.byId(networkOf);
    return others.length === 0 ? owner : undefined;
  };
  const whyNotLive =
    asked.kind === "answer" ? `the running proxy has another configuration than ${file.path}` : asked.why;
  const code = await explainContainer(
    { container, json, configPath: file.path, protectionOf, ownerOf, whyNotLive },
    config,
    find,
    print,
  );
  // Whatever the configuration says, a proxy that does not run gives nobody a role.
  return asked.kind === "not running" && options.configPath === undefined ? exitCodes.failed : code;
}

type Asked =
  | { readonly kind: "answer"; readonly answer: ExplainAnswer }
  | { readonly kind: "not running" | "no answer"; readonly why: string };

async function askProxy(
  container: string,
  { runtimeDirectory }: Pick<Environment, "runtimeDirectory">,
): Promise<Asked> {
  const path = join(runtimeDirectory ?? packagedRuntimeDirectory, adminSocketName);
  try {
    const answer = await askAdmin(path, undefined, explainTarget(container));
    return isExplainAnswer(answer)
      ? { kind: "answer", answer }
      : { kind: "no answer", why: "the running proxy is of another version" };
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined;
    const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
    return code === "ENOENT" || code === "ECONNREFUSED"
      ? { kind: "not running", why: "the proxy is not running, so nobody gets a role now" }
      : { kind: "no answer", why: `the running proxy was not asked (${explainError(error)})` };
  }
}

/** Checks what is used of the answer: it comes from the same program, but perhaps of another version. */
function isExplainAnswer(answer: unknown): answer is ExplainAnswer {
  return (
    typeof answer === "object" &&
    answer !== null &&
    "matches" in answer &&
    Array.isArray(answer.matches) &&
    "explanation" in answer &&
    "incomplete" in answer
  );
}

export type ExplainOptions = {
  /** A name, an id, the beginning of an id, or an address, as the operator typed it. */
  readonly container: string;
  readonly json: boolean;
  readonly configPath: string;
  /** For session names that contain it; left out of them where it is not known. */
  readonly instanceId?: string;
  /** Whether a container's addresses are locked; undefined without a guard. */
  readonly protectionOf?: (id: string) => Protection | undefined;
  /** The container in whose network one runs. */
  readonly ownerOf?: (container: Container) => Container | undefined;
  /** Why the running proxy is not asked. */
  readonly whyNotLive?: string;
};

/**
 * Explains a container by the configuration alone. STS is not called, so IAM may still refuse what is granted
 * here.
 * @throws OperatorError unless exactly one container matches
 */
export async function explainContainer(
  options: ExplainOptions,
  config: Config,
  find: (wanted: string) => Promise<readonly Container[]>,
  print: (text: string) => void,
): Promise<ExitCode> {
  const found = await find(options.container);
  const container = exactlyOne(options.container, found, null);
  const policy = rolePolicy(config);
  const isLockable = container.source === "engine" && addressesOf(container).length > 0;
  const owner = options.ownerOf?.(container);
  const explanation = explanationOf(
    container,
    decide(container, policy, options.instanceId),
    options.configPath,
    config.identityProof,
    isLockable ? options.protectionOf?.(container.id) : undefined,
    owner && { name: owner.name, decision: decide(owner, policy, options.instanceId) },
    null,
  );
  return show(explanation, options.json, print, options.whyNotLive);
}

function show(
  explanation: Explanation,
  json: boolean,
  print: (text: string) => void,
  whyNotLive = "the running proxy was not asked",
): ExitCode {
  print(json ? jsonText(explanation) : explanationText(explanation, whyNotLive));
  return isServed(explanation) ? exitCodes.ok : exitCodes.failed;
}

/** Whether it gets its role; without the proxy's word, whether the configuration gives it one. */
function isServed({ granted, networkOwner, identity, live }: Explanation): boolean {
  if (networkOwner !== null) return networkOwner.roleArn !== null && live?.state !== "failing";
  if (live !== null) return granted && live.state !== "failing";
  return granted && !(identity.proof === "address" && identity.locked === false);
}

/** @param incomplete why not every container is known; null if every one is */
function exactlyOne<One extends { readonly id: string; readonly name: string }>(
  wanted: string,
  found: readonly One[],
  incomplete: string | null,
): One {
  const [container, ...others] = found;
  if (container === undefined && incomplete !== null) {
    // "No such container" would be a guess while an engine does not answer.
    throw new OperatorError(`listing the containers of ${incomplete}`, {
      exitCode: exitCodes.unavailable,
      hint: "Is it running, and may this user open its socket (root, or group docker)?",
    });
  }
  if (container === undefined) {
    throw new OperatorError(
      `explaining ${quote(wanted)}: no running container has this name, id or address`,
      {
        hint: "`docker ps` lists the running containers; a stopped one has no address, so it gets no role.",
        exitCode: exitCodes.unavailable,
      },
    );
  }
  if (others.length > 0) {
    const names = found.slice(0, 10).map(({ name, id }) => `${printable(name)} (${shortId(id)})`);
    const more = found.length > names.length ? ` and ${found.length - names.length} more` : "";
    throw new OperatorError(`explaining ${quote(wanted)}: ${found.length} containers match`, {
      hint: `Name one of ${names.join(", ")}${more}.`,
      exitCode: exitCodes.failed,
    });
  }
  return container;
}
