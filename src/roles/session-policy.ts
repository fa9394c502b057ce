import { sessionPolicyProblem } from "../config/values.ts";
import type { Container } from "../containers/container.ts";
import { printable, quote } from "../text.ts";
import type { Refusal } from "./denial.ts";
import type { RoleSettings } from "./policy.ts";
import { type ContainerPolicySource, requestedPolicies } from "./request.ts";

/** Where the inline session policy is set. */
export type PolicySource = ContainerPolicySource | "alias" | "defaultPolicy" | "none";

/** The inline session policy of a grant. */
type InlinePolicy = { readonly source: PolicySource; readonly text: string | undefined };

type PolicyChoice =
  | { readonly ok: true; readonly policy: InlinePolicy }
  | { readonly ok: false; readonly refusal: Refusal };

/**
 * The `policy` and `policyArns` of an alias are a ceiling. STS combines all session policies of a call as a
 * union, so another one would widen them. `defaultPolicy` is not a ceiling: it is for containers that set no
 * policy.
 */
export function inlinePolicy(
  container: Container,
  settings: RoleSettings,
  defaultPolicy: string | undefined,
): PolicyChoice {
  const ceiling = settings.policy !== undefined || settings.policyArns.length > 0;
  const [requested] = requestedPolicies(container);
  if (requested === undefined) {
    if (settings.policy !== undefined) return chosen("alias", settings.policy);
    // Beside policyArns, defaultPolicy would be one more policy in the union.
    if (ceiling || defaultPolicy === undefined) return chosen("none", undefined);
    return chosen("defaultPolicy", defaultPolicy);
  }
  if (ceiling && !settings.containerPolicy) {
    return refused({
      code: "container-policy-not-allowed",
      reason: `${requested.source} sets a session policy, but alias ${quote(settings.alias ?? "")} has its own, which containers may not replace`,
      hint: `Remove ${requested.source} from the container, or set containerPolicy: true for the alias.`,
    });
  }
  const problem = sessionPolicyProblem(requested.value);
  if (problem !== undefined) {
    return refused({
      code: "invalid-policy",
      reason: `${requested.source} is not a valid session policy: ${printable(problem)}`,
      hint: `Correct ${requested.source} of the container, or remove it.`,
    });
  }
  return chosen(requested.source, requested.value);
}

function chosen(source: PolicySource, text: string | undefined): PolicyChoice {
  return { ok: true, policy: { source, text } };
}

function refused(refusal: Refusal): PolicyChoice {
  return { ok: false, refusal };
}
