import type { Container } from "../containers/container.ts";
import { quote } from "../text.ts";
import { type Refusal, riskWords } from "./denial.ts";
import { likelyMistakes } from "./mistakes.ts";
import type { RolePolicy, RoleSettings } from "./policy.ts";
import { type Requested, type RequestSource, requestedRoles } from "./request.ts";
import { resolve } from "./resolve.ts";
import { inlinePolicy, type PolicySource } from "./session-policy.ts";
import { renderSessionName, renderTagValue, templateValues } from "./template.ts";

export type { DenialCode } from "./denial.ts";
export { type RolePolicy, rolePolicy } from "./policy.ts";

/**
 * Every AssumeRole input of a grant. Grants with equal requests share one STS call and one set of
 * credentials.
 */
export type RoleRequest = {
  readonly roleArn: string;
  readonly sessionName: string;
  /** 900 to 43200. */
  readonly durationSeconds: number;
  /** Session policy JSON. */
  readonly policy?: string;
  readonly policyArns?: readonly string[];
  readonly tags?: Readonly<Record<string, string>>;
  readonly externalId?: string;
  readonly sourceIdentity?: string;
};

export type Grant = {
  readonly kind: "grant";
  /** Undefined if the role is not of an alias: `allowRoleArns` admitted its ARN. */
  readonly alias: string | undefined;
  /** The last part of the role's ARN, as in the role list of the metadata service. */
  readonly roleName: string;
  /** Where the role was requested. */
  readonly source: RequestSource;
  readonly policySource: PolicySource;
  /** The rule in the configuration that allowed it, in words. */
  readonly rule: string;
  /** What the operator should know about the grant, e.g. that the container is privileged. */
  readonly notes: readonly string[];
  readonly httpTokens: "required" | "optional";
  readonly request: RoleRequest;
};

export type Denial = Refusal & {
  readonly kind: "denial";
  /** Undefined if no role was requested and there is no default. */
  readonly source: RequestSource | undefined;
};

/**
 * Decides which role a container gets. The only place that applies the host's rules to its labels and
 * variables.
 */
export function decide(
  container: Container,
  policy: RolePolicy,
  instanceId: string | undefined,
): Grant | Denial {
  const [own, ...ignored] = requestedRoles(container);
  const requested = own ?? defaultRole(policy);
  const mistakes = likelyMistakes(container, policy);
  const denied = ({ code, reason, hint }: Refusal): Denial => ({
    kind: "denial",
    source: requested?.source,
    code,
    reason: [reason, ...mistakes].join("; "),
    hint,
  });
  if (requested === undefined) return denied(noRoleRequested(container));
  if (own === undefined && policy.requireLabel) return denied(labelRequired(container));

  const risk = container.risks.find((each) => policy.refuse.has(each));
  if (risk !== undefined) return denied(refusedRisk(risk));

  const resolved = resolve(container, requested, policy);
  if (!resolved.ok) return denied(resolved.refusal);
  const { settings, rule } = resolved;

  const inline = inlinePolicy(container, settings, policy.defaultPolicy);
  if (!inline.ok) return denied(inline.refusal);

  return {
    kind: "grant",
    alias: settings.alias,
    roleName: settings.arn.name,
    source: requested.source,
    policySource: inline.policy.source,
    rule,
    notes: [
      ...mistakes,
      ...container.risks.map((each) => `${each}: it ${riskWords[each]}`),
      ...ignored
        .filter(({ value }) => value !== requested.value)
        .map(
          ({ source, value }) => `${source} requests ${quote(value)}; ${requested.source} takes precedence`,
        ),
    ],
    httpTokens: settings.httpTokens,
    request: roleRequest(container, settings, inline.policy.text, instanceId),
  };
}

function defaultRole(policy: RolePolicy): Requested<RequestSource> | undefined {
  return policy.defaultAlias === undefined
    ? undefined
    : { source: "defaultAlias", value: policy.defaultAlias };
}

function noRoleRequested(container: Container): Refusal {
  return {
    code: "no-role-requested",
    reason: "the container requests no role, and the configuration has no defaultAlias",
    hint: howToRequest(container),
  };
}

function labelRequired(container: Container): Refusal {
  return {
    code: "label-required",
    reason: "the container requests no role, and requireLabel is set, so defaultAlias does not apply",
    hint: howToRequest(container),
  };
}

function howToRequest(container: Container): string {
  return container.source === "static"
    ? `Give it an alias in staticContainers.`
    : `If it needs a role, start it with --label ec2metaproxy.RoleAlias=ALIAS.`;
}

function refusedRisk(risk: Container["risks"][number]): Refusal {
  return {
    code: "refused-risk",
    reason: `the container ${riskWords[risk]}, and refuse contains ${quote(risk)}`,
    hint: `Start it without that, or remove ${quote(risk)} from refuse.`,
  };
}

function roleRequest(
  container: Container,
  settings: RoleSettings,
  policy: string | undefined,
  instanceId: string | undefined,
): RoleRequest {
  const values = templateValues(container, settings.alias, instanceId);
  const tags = [...settings.tags].map(([key, template]) => [key, renderTagValue(template, values)]);
  return {
    roleArn: settings.roleArn,
    sessionName: renderSessionName(settings.sessionName, values),
    durationSeconds: settings.durationSeconds,
    ...(policy !== undefined && { policy }),
    ...(settings.policyArns.length > 0 && { policyArns: settings.policyArns }),
    ...(tags.length > 0 && { tags: Object.fromEntries(tags) }),
    ...(settings.externalId !== undefined && { externalId: settings.externalId }),
    ...(settings.sourceIdentity !== undefined && {
      sourceIdentity: renderSessionName(settings.sourceIdentity, values),
    }),
  };
}
