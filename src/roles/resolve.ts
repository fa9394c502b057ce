import { didYouMean } from "../config/suggest.ts";
import { whyNoRoleArn } from "../config/values.ts";
import type { Container } from "../containers/container.ts";
import { printable, quote } from "../text.ts";
import { admit } from "./allow.ts";
import { parseRoleArn, roleIdentity } from "./arn.ts";
import type { Refusal } from "./denial.ts";
import type { RolePolicy, RoleSettings } from "./policy.ts";
import type { Requested, RequestSource } from "./request.ts";

type Resolution =
  /** The role, and the rule in the configuration that allowed it. */
  | { readonly ok: true; readonly settings: RoleSettings; readonly rule: string }
  | { readonly ok: false; readonly refusal: Refusal };

/** Resolves an alias or an ARN, as a container wrote it, to a role with its settings. */
export function resolve(
  container: Container,
  requested: Requested<RequestSource>,
  policy: RolePolicy,
): Resolution {
  if (requested.value.startsWith("arn:")) return resolveArn(container, requested, policy);
  const settings = policy.aliases.get(requested.value);
  return settings === undefined
    ? unknownAlias(requested, policy)
    : resolveAliases(container, requested, [settings]);
}

/**
 * An ARN must not bypass the rules of an alias with the same role: then only the aliases decide, not
 * `allowRoleArns`.
 */
function resolveArn(
  container: Container,
  requested: Requested<RequestSource>,
  policy: RolePolicy,
): Resolution {
  const arn = parseRoleArn(requested.value);
  if (arn === undefined) {
    return refused({
      code: "invalid-role",
      reason: `${requested.source} is ${quote(requested.value)}, which is not a role ARN${printable(whyNoRoleArn(requested.value)).slice(0, 200)}`,
      hint: `Correct ${requested.source} of the container, or use an alias there.`,
    });
  }
  const named = policy.aliasesByRole.get(roleIdentity(arn)) ?? [];
  const same = named.filter(({ roleArn }) => roleArn === requested.value);
  if (same.length > 0) return resolveAliases(container, requested, same);
  const [other] = named;
  if (other !== undefined) {
    return refused({
      code: "role-arn-not-allowed",
      reason: `${requested.source} is ${quote(requested.value)}, which differs in path or letter case from the role of alias ${quote(other.alias)}, ${other.roleArn}; role names are unique in an account`,
      hint: `Write ${other.roleArn} or ${quote(other.alias)} in ${requested.source}.`,
    });
  }
  const match = policy.allowRoleArns.find((glob) => glob.matches(arn));
  if (match !== undefined) {
    const rule = `allowRoleArns ${quote(match.text)}`;
    return { ok: true, settings: policy.unnamed(requested.value, arn), rule };
  }
  return refused({
    code: "role-arn-not-allowed",
    reason: `${requested.source} is ${quote(requested.value)}, which is not the role of an alias and matches no glob in allowRoleArns`,
    hint: "Add an alias with this role, or a glob to allowRoleArns.",
  });
}

/** Uses the first of these aliases that admits the container. */
function resolveAliases(
  container: Container,
  requested: Requested<RequestSource>,
  candidates: readonly (RoleSettings & { readonly alias: string })[],
): Resolution {
  const refusals: string[] = [];
  for (const settings of candidates) {
    const admission = admit(container, settings.allow);
    if (admission.admitted)
      return { ok: true, settings, rule: `alias ${quote(settings.alias)} (${admission.by})` };
    refusals.push(`alias ${quote(settings.alias)} does not admit it: ${admission.reason}`);
  }
  const names = candidates.map(({ alias }) => quote(alias)).join(" or ");
  return refused({
    code: "alias-not-allowed",
    reason: `${requested.source} is ${quote(requested.value)}; ${refusals.join("; ")}`,
    hint: `Widen the \`allow\` of alias ${names} if this container should have the role, or request another role.`,
  });
}

function unknownAlias(requested: Requested<RequestSource>, policy: RolePolicy): Resolution {
  // No suggestion for a long text: it comes from a container, and the search time grows with its length.
  const suggestion =
    requested.value.length > 128 ? "" : printable(didYouMean(requested.value, [...policy.aliases.keys()]));
  return refused({
    code: requested.source === "defaultAlias" ? "unknown-default-alias" : "unknown-alias",
    reason: `${requested.source} is ${quote(requested.value)}, which is not an alias in the configuration`,
    hint: `${suggestion} Add it to aliases, or change ${requested.source}.`.trim(),
  });
}

function refused(refusal: Refusal): Resolution {
  return { ok: false, refusal };
}
