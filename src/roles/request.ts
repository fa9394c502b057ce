import type { Container } from "../containers/container.ts";

/** What a container asks for, and where that is written. Labels and variables are requests: whoever starts the container wrote them. */

export type RequestSource =
  | "label ec2metaproxy.RoleAlias"
  | "label com.swipely.iam-docker.iam-profile"
  | "env IAM_ROLE"
  | "defaultAlias"
  | "staticContainers";

export type Asked<Source extends string> = { readonly source: Source; readonly value: string };

/**
 * The roles that a container names itself, the one that counts first. White space around a value is dropped and an empty
 * value asks for nothing, as ec2metaproxy had it: `IAM_ROLE=${ROLE:-}` in a compose file means the default.
 */
export function rolesAsked(container: Container): readonly Asked<RequestSource>[] {
  if (container.source === "static") return said([["staticContainers", container.staticAlias]]);
  return said([
    ["label ec2metaproxy.RoleAlias", label(container, "ec2metaproxy.RoleAlias")],
    ["label com.swipely.iam-docker.iam-profile", label(container, "com.swipely.iam-docker.iam-profile")],
    ["env IAM_ROLE", variable(container, "IAM_ROLE")],
  ]);
}

export type BroughtPolicySource = "label ec2metaproxy.Policy" | "env IAM_POLICY";

/** The session policies that a container brings, the one that counts first. */
export function policiesAsked(container: Container): readonly Asked<BroughtPolicySource>[] {
  return said([
    ["label ec2metaproxy.Policy", label(container, "ec2metaproxy.Policy")],
    ["env IAM_POLICY", variable(container, "IAM_POLICY")],
  ]);
}

export function composeProject(container: Container): string | undefined {
  return label(container, "com.docker.compose.project");
}

export function composeService(container: Container): string | undefined {
  return label(container, "com.docker.compose.service");
}

/** A label of the container's own: `labels.constructor` would answer for every container. */
export function label(container: Container, name: string): string | undefined {
  return Object.hasOwn(container.labels, name) ? container.labels[name] : undefined;
}

function variable(container: Container, name: "IAM_ROLE" | "IAM_POLICY"): string | undefined {
  return Object.hasOwn(container.env, name) ? container.env[name] : undefined;
}

/** Those that say something, in their order. */
function said<Source extends string>(
  values: readonly (readonly [source: Source, value: string | undefined])[],
): readonly Asked<Source>[] {
  return values.flatMap(([source, value]) => {
    const trimmed = value?.trim() ?? "";
    return trimmed === "" ? [] : [{ source, value: trimmed }];
  });
}
