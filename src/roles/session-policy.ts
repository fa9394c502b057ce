import { sessionPolicyProblem } from "../config/values.ts";
import type { Container } from "../containers/container.ts";
import { printable, quote } from "../text.ts";
import type { Refusal } from "./denial.ts";
import type { RoleSettings } from "./policy.ts";
import { type BroughtPolicySource, policiesAsked } from "./request.ts";

/** Where the inline session policy was written. */
export type PolicySource = BroughtPolicySource | "alias" | "defaultPolicy" | "none";

/** The inline session policy of a grant. */
export type InlinePolicy = { readonly source: PolicySource; readonly text: string | undefined };

/**
 * An alias's `policy` and `policyArns` are a ceiling: STS takes the union of all session policies of a call, so one more
 * would widen them. `defaultPolicy` is none: it is for containers that bring no policy of their own.
 */
export function inlinePolicy(
  container: Container,
  settings: RoleSettings,
  defaultPolicy: string | undefined,
): InlinePolicy | Refusal {
  const ceiling = settings.policy !== undefined || settings.policyArns.length > 0;
  const [brought] = policiesAsked(container);
  if (brought === undefined) {
    if (settings.policy !== undefined) return { source: "alias", text: settings.policy };
    // Beside policyArns it would be one more policy in the union.
    if (ceiling || defaultPolicy === undefined) return { source: "none", text: undefined };
    return { source: "defaultPolicy", text: defaultPolicy };
  }
  if (ceiling && !settings.containerPolicy) {
    return {
      code: "container-policy-not-allowed",
      reason: `${brought.source} brings a session policy, and alias ${quote(settings.alias ?? "")} has its own, which no container may replace`,
      hint: `Remove ${brought.source} from the container, or set containerPolicy: true for the alias.`,
    };
  }
  const problem = sessionPolicyProblem(brought.value);
  if (problem !== undefined) {
    return {
      code: "invalid-policy",
      reason: `${brought.source} is no session policy: ${printable(problem)}`,
      hint: `Correct ${brought.source} of the container, or remove it.`,
    };
  }
  return { source: brought.source, text: brought.value };
}
