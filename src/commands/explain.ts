import type { Environment } from "../config/load.ts";
import type { Config } from "../config/schema.ts";
import { addressesOf, type Container } from "../containers/container.ts";
import type { Protection } from "../containers/protection.ts";
import { type ExitCode, exitCodes, OperatorError } from "../errors.ts";
import type { Log } from "../log.ts";
import { decide } from "../roles/grant.ts";
import { rolePolicy } from "../roles/policy.ts";
import { shortId } from "../roles/template.ts";
import { jsonText, printable, quote } from "../text.ts";
import { hostClocks } from "./clocks.ts";
import { configuration } from "./configuration.ts";
import { type Explanation, explanationOf } from "./explanation.ts";
import { viewGuard } from "./guard-view.ts";
import { takeInventory } from "./inventory.ts";

/** Explains a container of this host's engines, by this host's configuration. */
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
  const config = await file.read();
  const [{ directory, engines }, guard] = await Promise.all([
    takeInventory(config, environment, log, hostClocks()),
    viewGuard(options.guard, environment),
  ]);
  const find = async (idOrName: string) => {
    const found = directory.byId(idOrName);
    const absent = engines.find(({ connected }) => !connected);
    if (found.length > 0 || absent === undefined) return found;
    // "No such container" would be a guess while an engine does not answer.
    throw new OperatorError(`listing the containers of ${absent.host}: ${absent.lastError ?? "no answer"}`, {
      exitCode: exitCodes.unavailable,
      hint: "Is it running, and may this user open its socket (root, or group docker)?",
    });
  };
  const { container, json } = options;
  // A host without a guard has no lock that could be missing.
  const hasGuard =
    guard.silentBecause === undefined || "path" in guard.proxy || config.identityProof === "address";
  const protectionOf = (id: string) => (hasGuard ? guard.protectionOf(id) : undefined);
  return explainContainer({ container, json, configPath: file.path, protectionOf }, config, find, print);
}

export type ExplainOptions = {
  /** A name, an id, or the beginning of an id, as the operator typed it. */
  readonly container: string;
  readonly json: boolean;
  readonly configPath: string;
  /** For session names that contain it; left out of them where it is not known. */
  readonly instanceId?: string;
  /** Whether a container's addresses are locked; undefined without a guard. */
  readonly protectionOf?: (id: string) => Protection | undefined;
};

/**
 * Prints who a container is, what it requests, what it gets and why. Exit code 0 where it gets a role, 1
 * where it is refused. STS is not called, so IAM may still refuse what is granted here.
 * @throws OperatorError unless exactly one container matches.
 */
export async function explainContainer(
  options: ExplainOptions,
  config: Config,
  find: (idOrName: string) => Promise<readonly Container[]>,
  print: (text: string) => void,
): Promise<ExitCode> {
  const container = exactlyOne(options.container, await find(options.container));
  const decision = decide(container, rolePolicy(config), options.instanceId);
  const isLockable = container.source === "engine" && addressesOf(container).length > 0;
  const explanation = explanationOf(
    container,
    decision,
    options.configPath,
    config.identityProof,
    isLockable ? options.protectionOf?.(container.id) : undefined,
  );
  print(options.json ? jsonText(explanation) : text(explanation));
  return decision.kind === "grant" ? exitCodes.ok : exitCodes.failed;
}

function exactlyOne(wanted: string, found: readonly Container[]): Container {
  const [container, ...others] = found;
  if (container === undefined) {
    throw new OperatorError(`explaining ${quote(wanted)}: no running container has this name or id`, {
      hint: "`docker ps` lists the running containers; a stopped one has no address, so it gets no role.",
      exitCode: exitCodes.unavailable,
    });
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

type Row = readonly [name: string, value: string | null];

function text(explanation: Explanation): string {
  const { container, grant, refusal } = explanation;
  const lines =
    grant === null
      ? [`${printable(container.name)} gets no role (${refusal?.code ?? ""}).`]
      : [`${printable(container.name)} gets the role ${grant.roleName}.`];
  lines.push(
    ...section("Who it is", [...whoRows(container), ...identityRows(explanation.identity)]),
    ...section("What it asks for", askRows(explanation)),
  );
  if (grant !== null) lines.push(...section("What it gets", grantRows(grant)));
  if (refusal !== null) {
    const rows: Row[] = [
      ["because", refusal.reason],
      ["change", refusal.hint],
      ["configuration", explanation.config],
    ];
    lines.push(...section("Why it is refused", rows));
  }
  return lines.join("\n");
}

function whoRows({
  id,
  image,
  imageId,
  user,
  networks,
  risks,
  ...container
}: Explanation["container"]): readonly Row[] {
  const addresses = networks.map(
    ({ network, ipv4, ipv6 }) =>
      `${[ipv4, ipv6].filter((each) => each !== null).join(" and ") || "no address"} on ${network}`,
  );
  const compose = [container.composeProject, container.composeService]
    .filter((each) => each !== null)
    .join(" / ");
  return [
    ["name", container.name],
    ["id", id],
    [
      "image",
      image === ""
        ? "none: from staticContainers"
        : [image, imageId].filter((each) => each !== "").join(", "),
    ],
    ["user", user === "" ? null : user],
    ["compose", compose === "" ? null : compose],
    ["addresses", addresses.length === 0 ? "none" : addresses.join(", ")],
    ["risks", risks.length === 0 ? null : risks.join(", ")],
    [
      "warning",
      risks.includes("host-network")
        ? "on the host's network its requests go to the real service, past this proxy"
        : null,
    ],
  ];
}

function identityRows({ proof, locked, reason }: Explanation["identity"]): readonly Row[] {
  return [
    ["port lock", locked === null ? null : locked ? "in force" : `not in force: ${reason ?? ""}`],
    [
      "warning",
      proof === "address" && locked === false
        ? 'identityProof is "address": its requests get 503 (address-not-locked) until the lock is in force'
        : null,
    ],
  ];
}

function askRows({ asks, source }: Explanation): readonly Row[] {
  const roles = asks.roles.map(
    ({ source, value }, index): Row => [source, `${quote(value)}${index === 0 ? "" : " (not used)"}`],
  );
  const policies = asks.policies.map(
    ({ source, value }, index): Row => [source, index === 0 ? value : `${value} (not used)`],
  );
  const nothing: Row = ["role", source === null ? "nothing" : `nothing; ${source} applies`];
  return [...(roles.length === 0 ? [nothing] : roles), ...policies];
}

function grantRows(grant: NonNullable<Explanation["grant"]>): readonly Row[] {
  const tags = Object.entries(grant.tags).map(([key, value]) => `${key}=${value}`);
  return [
    ["allowed by", grant.rule],
    ["role", grant.roleArn],
    ["session name", grant.sessionName],
    ["duration", `${grant.durationSeconds} s`],
    ["session policy", grant.policy === null ? "none" : `${grant.policy} (from ${grant.policySource})`],
    ["policy ARNs", grant.policyArns.length === 0 ? null : grant.policyArns.join(", ")],
    ["tags", tags.length === 0 ? null : tags.join(", ")],
    ["source identity", grant.sourceIdentity],
    ["external id", grant.externalId ? "set" : null],
    ["IMDSv1", grant.httpTokens === "optional" ? "allowed" : "refused: clients must use IMDSv2 tokens"],
    ...grant.notes.map((note): Row => ["note", note]),
  ];
}

/** Escapes every value: a label may contain terminal escapes. */
function section(title: string, rows: readonly Row[]): readonly string[] {
  const shown = rows.filter(([, value]) => value !== null);
  const width = Math.max(...shown.map(([name]) => name.length));
  return ["", title, ...shown.map(([name, value]) => `  ${name.padEnd(width)}  ${printable(value ?? "")}`)];
}
