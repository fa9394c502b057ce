import { closestMatch } from "leven";
import type { Container } from "../containers/container.ts";
import { quote } from "../text.ts";
import { parseRoleArn } from "./arn.ts";
import type { RolePolicy } from "./policy.ts";
import { requestedPolicies, requestedRoles } from "./request.ts";

/**
 * What a container's labels and variables look like but are not: said to the operator, never acted upon. A
 * guess that grants a role would let a container choose by misspelling.
 */

/** The labels that are read, by their letters and digits in lower case. */
const labelsRead: ReadonlyMap<string, string> = new Map(
  ["ec2metaproxy.RoleAlias", "ec2metaproxy.Policy", "com.swipely.iam-docker.iam-profile"].map((key) => [
    bare(key),
    key,
  ]),
);
const roleLabel = "ec2metaproxy.RoleAlias";

/** Labels and annotations with which other tools name a role. */
const othersLabels: ReadonlyMap<string, string> = new Map([
  ["iam.amazonaws.com/role", "kube2iam and kiam"],
  ["eks.amazonaws.com/role-arn", "EKS"],
  ["iam.cloud.google.com/service-account", "GKE"],
]);

/** A container has as many labels as it likes, of any length. */
const longestKey = 300;
const mostMistakes = 3;

/** Each is a clause about one label or variable, without a full stop. Nothing in it is unprintable. */
export function likelyMistakes(container: Container, policy: Pick<RolePolicy, "aliases">): readonly string[] {
  if (container.source === "static") return [];
  const ofKeys = Object.keys(container.labels).flatMap((key) => keyMistake(key) ?? []);
  const [role] = requestedRoles(container);
  const ofRole = role === undefined ? undefined : roleMistake(role.source, role.value, policy);
  const [session] = requestedPolicies(container);
  const ofPolicy =
    session !== undefined && /^(["']).*\1$/s.test(session.value) && /^.\s*\{/s.test(session.value)
      ? `the quotes around ${session.source} are part of its value: remove them`
      : undefined;
  return [ofRole, ofPolicy, ...ofKeys].filter((text) => text !== undefined).slice(0, mostMistakes);
}

function keyMistake(key: string): string | undefined {
  if ([...labelsRead.values()].includes(key) || key.length > longestKey) return undefined;
  const shown = `the label ${quote(key)} is not read`;
  const other = othersLabels.get(key.toLowerCase());
  if (other !== undefined) return `${shown}: it is one of ${other}; here the label is ${roleLabel}`;
  // YAML's list form, `- "key: value"`, makes the whole text the key.
  const [, name = key, value] = /^([^:=]*?)\s*[:=]\s*(.*)$/s.exec(key) ?? [];
  const meant = labelLike(name);
  if (meant === undefined) return undefined;
  if (value !== undefined)
    return `${shown}: its key contains the value too; write ${meant}=${quote(value).slice(1, -1)}`;
  return `${shown}: it looks like ${meant}, and keys are compared with their letter case and punctuation`;
}

/** The label that somebody probably meant by a key. */
function labelLike(key: string): string | undefined {
  const letters = bare(key);
  const exact = labelsRead.get(letters);
  if (exact !== undefined) return exact;
  // Without the prefix, `role` alone is a word that others use.
  if (
    /^ec2meta(data)?proxy(iam)?(role(alias|arn|name)?|alias|arn|iamprofile)$/.test(letters) ||
    /^(rolealias|iamrole(arn|alias|name)?)$/.test(letters)
  )
    return roleLabel;
  if (/^(ec2meta(data)?proxy)?iampolicy$/.test(letters)) return "ec2metaproxy.Policy";
  // Shorter ones are like too many words.
  const near =
    letters.length < 16 ? undefined : closestMatch(letters, [...labelsRead.keys()], { maxDistance: 3 });
  return near === undefined ? undefined : labelsRead.get(near);
}

function roleMistake(
  source: string,
  value: string,
  { aliases }: Pick<RolePolicy, "aliases">,
): string | undefined {
  if (aliases.has(value) || parseRoleArn(value) !== undefined || value.length > 2_048) return undefined;
  const is = (text: string) => aliases.has(text) || parseRoleArn(text) !== undefined;
  const unquoted = value.replace(/^["'`\u2018-\u201f]+|["'`\u2018-\u201f]+$/gu, "").trim();
  if (unquoted !== value)
    return `the quotes around ${source} are part of its value (--env-file and lists in Compose files keep them): remove them`;
  if (/^\$|\$\{|^%\w+%$|\{\{|^<.*>$/.test(value))
    return `${source} looks like a placeholder that nothing has replaced`;
  const visible = value.replace(/[\p{Cc}\p{Cf}\s]/gu, "");
  if (visible !== value && is(visible))
    return `${source} contains spaces or invisible characters: without them it is ${quote(visible)}`;
  const ended = value.replace(/[,;.]+$/, "");
  if (ended !== value && is(ended))
    return `${source} ends with ${quote(value.slice(ended.length))}: remove it`;
  const named = /^[\w.-]+\s*[:=]\s*(.+)$/s.exec(value)?.[1]?.trim();
  if (named !== undefined && is(named) && !value.startsWith("arn:"))
    return `${source} contains a name before the value: write only ${quote(named)}`;
  if (/^arn:/i.test(value)) return arnMistake(source, value);
  const folded = value.toLowerCase();
  const alias = [...aliases.keys()].find((each) => each.toLowerCase() === folded);
  if (alias !== undefined) return `${source} differs from the alias ${quote(alias)} in letter case only`;
  const name = folded.replace(/^.*\//, "");
  const settings = [...aliases.values()].find(({ arn }) => arn.name.toLowerCase() === name);
  return settings === undefined
    ? undefined
    : `${source} is the name of a role: write its alias, ${quote(settings.alias)}, or its ARN, ${settings.roleArn}`;
}

function arnMistake(source: string, value: string): string | undefined {
  if (!value.startsWith("arn:")) return `${source} is an ARN in upper case: ARNs begin with arn:aws`;
  const kind = /:(instance-profile|assumed-role|user|group|policy)\//.exec(value)?.[1];
  switch (kind) {
    case undefined:
      return undefined;
    case "instance-profile":
      return `${source} is the ARN of an instance profile: write that of its role`;
    case "assumed-role":
      return `${source} is the ARN of a session: write that of its role, arn:aws:iam::ACCOUNT:role/NAME`;
    default:
      return `${source} is the ARN of a ${kind}, not of a role`;
  }
}

function bare(text: string): string {
  return text.toLowerCase().replace(/[^a-z0-9]/g, "");
}
