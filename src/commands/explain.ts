import type { Config } from "../config/schema.ts";
import type { Container } from "../containers/container.ts";
import { type ExitCode, exitCodes, OperatorError } from "../errors.ts";
import { decide } from "../roles/grant.ts";
import { rolePolicy } from "../roles/policy.ts";
import { shortId } from "../roles/template.ts";
import { jsonText, printable, quote } from "../text.ts";
import { type Explanation, explanationOf } from "./explanation.ts";

export type ExplainOptions = {
  /** A name, an id, or the beginning of an id, as the operator typed it. */
  readonly container: string;
  readonly json: boolean;
  readonly configPath: string;
  /** For session names that hold it; a caller that does not know it leaves it out. */
  readonly instanceId?: string;
};

/**
 * Says who a container is, what it asks for, what it gets and why. Exit code 0 where it gets a role, 1 where it is refused.
 * Nothing is asked of STS, so IAM may still refuse what is granted here.
 * @throws OperatorError where not exactly one container is meant.
 */
export async function explain(
  options: ExplainOptions,
  config: Config,
  find: (idOrName: string) => Promise<readonly Container[]>,
  print: (text: string) => void,
): Promise<ExitCode> {
  const container = theOne(options.container, await find(options.container));
  const decision = decide(container, rolePolicy(config), options.instanceId);
  const explanation = explanationOf(container, decision, options.configPath);
  print(options.json ? jsonText(explanation) : text(explanation));
  return decision.kind === "grant" ? exitCodes.ok : exitCodes.failed;
}

function theOne(wanted: string, found: readonly Container[]): Container {
  const [container, ...others] = found;
  if (container === undefined) {
    throw new OperatorError(`explaining ${quote(wanted)}: no running container has this name or id`, {
      hint: "`docker ps` lists those that run; one that has stopped has no address, and so no role.",
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
    ...section("Who it is", whoRows(container)),
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

function askRows({ asks, source }: Explanation): readonly Row[] {
  const roles = asks.roles.map(
    ({ source, value }, index): Row => [source, `${quote(value)}${index === 0 ? "" : " (not used)"}`],
  );
  const policies = asks.policies.map(
    ({ source, value }, index): Row => [source, index === 0 ? value : `${value} (not used)`],
  );
  const nothing: Row = ["role", source === null ? "nothing" : `nothing; ${source} speaks for it`];
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

/** Every value once more without control characters: a label may hold what a terminal obeys. */
function section(title: string, rows: readonly Row[]): readonly string[] {
  const given = rows.filter(([, value]) => value !== null);
  const width = Math.max(...given.map(([name]) => name.length));
  return ["", title, ...given.map(([name, value]) => `  ${name.padEnd(width)}  ${printable(value ?? "")}`)];
}
