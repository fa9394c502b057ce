import { causeText } from "../credentials/diagnosis.ts";
import { shortId } from "../roles/template.ts";
import { printable, quote } from "../text.ts";
import type { Explanation, Live } from "./explanation.ts";
import { duration } from "./status-text.ts";

type Row = readonly [name: string, value: string | null];

/**
 * What `explain` prints for people.
 * @param whyNotLive why the running proxy does not say what the container really gets
 */
export function explanationText(explanation: Explanation, whyNotLive: string): string {
  const { container, grant, refusal, live, networkOwner } = explanation;
  const lines = [printable(verdictText(explanation))];
  if (live === null) lines.push(printable(`By the configuration only: ${whyNotLive}.`));
  lines.push(
    ...section("Who it is", [
      ...whoRows(container),
      [
        "network",
        networkOwner === null ? null : `that of ${networkOwner.name ?? shortId(networkOwner.id)}`,
      ] as const,
      ...identityRows(explanation.identity),
    ]),
    ...section("What it asks for", askRows(explanation)),
  );
  if (grant !== null) lines.push(...section("What it may have", grantRows(grant)));
  if (refusal !== null) {
    const rows: Row[] = [
      ["because", refusal.reason],
      ["change", refusal.hint],
      ["configuration", explanation.config],
    ];
    lines.push(...section("Why it is refused", rows));
  }
  if (live !== null) lines.push(...section("What the proxy knows", liveRows(live)));
  return lines.join("\n");
}

/** What it really gets, where that is known. */
function verdictText({ container, grant, refusal, networkOwner, live }: Explanation): string {
  const { name } = container;
  if (networkOwner !== null) {
    const owner = networkOwner.name ?? `the container ${shortId(networkOwner.id)}, which is not running`;
    const role =
      networkOwner.roleArn ?? `no role${networkOwner.code === null ? "" : ` (${networkOwner.code})`}`;
    const wrong = live?.state === "failing" ? ` ${name} ${live.message}.` : "";
    return `${name} runs in the network of ${owner}, and gets what that gets: ${role}.${wrong}`;
  }
  if (grant === null) return `${name} gets no role (${refusal?.code ?? ""}).`;
  switch (live?.state) {
    case "served":
      return `${name} gets the role ${grant.roleName}.`;
    case "failing":
      return `${name} DOES NOT GET the role ${grant.roleName}: it ${live.message}.`;
    case undefined:
      return `${name} may have the role ${grant.roleName}.`;
    default:
      return `${name} may have the role ${grant.roleName}: ${live?.message ?? ""}.`;
  }
}

function liveRows({ credentials, hint, requests, refusals, lastRefusal }: Live): readonly Row[] {
  const ago = (seconds: number) => `${duration(seconds)} ago`;
  const { expires, expiresInSeconds, refreshedSecondsAgo, lastError } = credentials ?? {};
  return [
    ["change", hint === "" ? null : hint],
    ["credentials", credentials === null ? "not requested from STS yet" : credentials.state],
    [
      "expires",
      expires && typeof expiresInSeconds === "number"
        ? `${expires}, ${expiresInSeconds > 0 ? `in ${duration(expiresInSeconds)}` : ago(-expiresInSeconds)}`
        : null,
    ],
    ["refreshed", typeof refreshedSecondsAgo === "number" ? ago(refreshedSecondsAgo) : null],
    ["last AssumeRole", lastError ? `failed ${ago(lastError.secondsAgo)}: ${causeText(lastError)}` : null],
    ["requests", `${requests}, ${refusals} of them refused`],
    [
      "last refusal",
      lastRefusal === null
        ? null
        : `${ago(lastRefusal.secondsAgo)}: ${lastRefusal.code}: ${lastRefusal.reason}`,
    ],
  ];
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
