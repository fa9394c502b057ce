import type { Container } from "../containers/container.ts";
import { quote } from "../text.ts";
import { type Refusal, riskWords } from "./denial.ts";
import type { RolePolicy, RoleSettings } from "./policy.ts";
import { type Asked, type RequestSource, rolesAsked } from "./request.ts";
import { resolve } from "./resolve.ts";
import { inlinePolicy, type PolicySource } from "./session-policy.ts";
import { renderSessionName, renderTagValue, templateValues } from "./template.ts";

export type { DenialCode } from "./denial.ts";
export { type RolePolicy, rolePolicy } from "./policy.ts";

/** Every AssumeRole input of one grant. Two grants with equal requests share one STS call and one set of credentials. */
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
  /** Undefined where `allowRoleArns` admitted an ARN that is no alias's. */
  readonly alias: string | undefined;
  /** The last part of the role's ARN: what the role list of the metadata service shows. */
  readonly roleName: string;
  /** Where the request is written. */
  readonly source: RequestSource;
  readonly policySource: PolicySource;
  /** Which rule of the configuration allowed it, in words. */
  readonly rule: string;
  /** What an operator may want to know of it, e.g. that the container is privileged. */
  readonly notes: readonly string[];
  readonly httpTokens: "required" | "optional";
  readonly request: RoleRequest;
};

export type Denial = Refusal & {
  readonly kind: "denial";
  /** Undefined where nothing was asked and there is no default. */
  readonly source: RequestSource | undefined;
};

/** What a container gets: the one place where its labels and variables meet the host's rules. */
export function decide(
  container: Container,
  policy: RolePolicy,
  instanceId: string | undefined,
): Grant | Denial {
  const [own, ...lesser] = rolesAsked(container);
  const asked = own ?? defaultOf(policy);
  const denied = (refusal: Refusal): Denial => ({ kind: "denial", source: asked?.source, ...refusal });
  if (asked === undefined) return denied(nothingAsked(container));
  if (own === undefined && policy.requireLabel) return denied(labelRequired(container));

  const risk = container.risks.find((each) => policy.refuse.has(each));
  if (risk !== undefined) return denied(refusedRisk(risk));

  const resolved = resolve(container, asked, policy);
  if ("code" in resolved) return denied(resolved);
  const { settings, rule } = resolved;

  const inline = inlinePolicy(container, settings, policy.defaultPolicy);
  if ("code" in inline) return denied(inline);

  return {
    kind: "grant",
    alias: settings.alias,
    roleName: settings.arn.name,
    source: asked.source,
    policySource: inline.source,
    rule,
    notes: [
      ...container.risks.map((each) => `${each}: it ${riskWords[each]}`),
      ...lesser
        .filter(({ value }) => value !== asked.value)
        .map(({ source, value }) => `${source} asks for ${quote(value)}; ${asked.source} goes before it`),
    ],
    httpTokens: settings.httpTokens,
    request: roleRequest(container, settings, inline.text, instanceId),
  };
}

function defaultOf(policy: RolePolicy): Asked<RequestSource> | undefined {
  return policy.defaultAlias === undefined
    ? undefined
    : { source: "defaultAlias", value: policy.defaultAlias };
}

function nothingAsked(container: Container): Refusal {
  return {
    code: "no-role-requested",
    reason: "the container asks for no role, and the configuration has no defaultAlias",
    hint: howToAsk(container),
  };
}

function labelRequired(container: Container): Refusal {
  return {
    code: "label-required",
    reason: "the container asks for no role, and requireLabel keeps defaultAlias from it",
    hint: howToAsk(container),
  };
}

function howToAsk(container: Container): string {
  return container.source === "static"
    ? `Give it an alias in staticContainers.`
    : `Start it with --label ec2metaproxy.RoleAlias=ALIAS, if it needs a role.`;
}

function refusedRisk(risk: Container["risks"][number]): Refusal {
  return {
    code: "refused-risk",
    reason: `the container ${riskWords[risk]}, and refuse has ${quote(risk)}`,
    hint: `Start it without that, or take ${quote(risk)} out of refuse.`,
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
