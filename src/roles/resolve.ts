import { didYouMean } from "../config/suggest.ts";
import { whyNoRoleArn } from "../config/values.ts";
import type { Container } from "../containers/container.ts";
import { printable, quote } from "../text.ts";
import { admit } from "./allow.ts";
import { parseRoleArn, roleIdentity } from "./arn.ts";
import type { Refusal } from "./denial.ts";
import type { RolePolicy, RoleSettings } from "./policy.ts";
import type { Asked, RequestSource } from "./request.ts";

/** The role that a request comes to, and the rule of the configuration that allowed it. */
type Resolved = { readonly settings: RoleSettings; readonly rule: string };

/** From an alias or an ARN, as a container wrote it, to a role with its settings. */
export function resolve(
  container: Container,
  asked: Asked<RequestSource>,
  policy: RolePolicy,
): Resolved | Refusal {
  if (asked.value.startsWith("arn:")) return resolveArn(container, asked, policy);
  const settings = policy.aliases.get(asked.value);
  return settings === undefined ? unknownAlias(asked, policy) : resolveAliases(container, asked, [settings]);
}

/** An ARN must not get round the rules of an alias that has it: then only the aliases decide, not `allowRoleArns`. */
function resolveArn(
  container: Container,
  asked: Asked<RequestSource>,
  policy: RolePolicy,
): Resolved | Refusal {
  const arn = parseRoleArn(asked.value);
  if (arn === undefined) {
    return {
      code: "invalid-role",
      reason: `${asked.source} is ${quote(asked.value)}, no role ARN${printable(whyNoRoleArn(asked.value)).slice(0, 200)}`,
      hint: `Correct ${asked.source} of the container, or name an alias there.`,
    };
  }
  const named = policy.aliasesByRole.get(roleIdentity(arn)) ?? [];
  const same = named.filter(({ roleArn }) => roleArn === asked.value);
  if (same.length > 0) return resolveAliases(container, asked, same);
  const [other] = named;
  if (other !== undefined) {
    return {
      code: "role-arn-not-allowed",
      reason: `${asked.source} is ${quote(asked.value)}, which differs in path or letter case from the role of alias ${quote(other.alias)}, ${other.roleArn}; an account has only one role of a name`,
      hint: `Write ${other.roleArn} or ${quote(other.alias)} in ${asked.source}.`,
    };
  }
  const match = policy.allowRoleArns.find((glob) => glob.matches(arn));
  if (match !== undefined) {
    return { settings: policy.unnamed(asked.value, arn), rule: `allowRoleArns ${quote(match.text)}` };
  }
  return {
    code: "role-arn-not-allowed",
    reason: `${asked.source} is ${quote(asked.value)}, which is no alias's role and matches nothing in allowRoleArns`,
    hint: "Add an alias with this role, or a glob to allowRoleArns.",
  };
}

/** The first of these aliases that admits the container. */
function resolveAliases(
  container: Container,
  asked: Asked<RequestSource>,
  candidates: readonly (RoleSettings & { readonly alias: string })[],
): Resolved | Refusal {
  const refusals: string[] = [];
  for (const settings of candidates) {
    const admission = admit(container, settings.allow);
    if (admission.admitted) return { settings, rule: `alias ${quote(settings.alias)} (${admission.by})` };
    refusals.push(`alias ${quote(settings.alias)} does not admit it: ${admission.reason}`);
  }
  const names = candidates.map(({ alias }) => quote(alias)).join(" or ");
  return {
    code: "alias-not-allowed",
    reason: `${asked.source} is ${quote(asked.value)}; ${refusals.join("; ")}`,
    hint: `Widen the \`allow\` of alias ${names} if this container may have the role, or let the container ask for another.`,
  };
}

function unknownAlias(asked: Asked<RequestSource>, policy: RolePolicy): Refusal {
  // No guess for a long text: it comes from a container, and guessing takes time by its length.
  const guess =
    asked.value.length > 128 ? "" : printable(didYouMean(asked.value, [...policy.aliases.keys()]));
  return {
    code: asked.source === "defaultAlias" ? "unknown-default-alias" : "unknown-alias",
    reason: `${asked.source} is ${quote(asked.value)}, which is no alias in the configuration`,
    hint: `${guess} Add it to aliases, or change ${asked.source}.`.trim(),
  };
}
