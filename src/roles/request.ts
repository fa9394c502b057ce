import type { Container } from "../containers/container.ts";

/**
 * What a container requests, and where. Labels and variables are only requests: whoever starts the container
 * sets them.
 */

export type RequestSource =
  | "label ec2metaproxy.RoleAlias"
  | "label com.swipely.iam-docker.iam-profile"
  | "env IAM_ROLE"
  | "defaultAlias"
  | "staticContainers";

export type Requested<Source extends string> = { readonly source: Source; readonly value: string };

/**
 * The roles that a container requests, in order of precedence. White space around a value is removed, and an
 * empty value requests nothing, as in the original ec2metaproxy: `IAM_ROLE=${ROLE:-}` in a Compose file means
 * the default.
 */
export function requestedRoles(container: Container): readonly Requested<RequestSource>[] {
  if (container.source === "static") return nonEmpty([["staticContainers", container.staticAlias]]);
  return nonEmpty([
    ["label ec2metaproxy.RoleAlias", label(container, "ec2metaproxy.RoleAlias")],
    ["label com.swipely.iam-docker.iam-profile", label(container, "com.swipely.iam-docker.iam-profile")],
    ["env IAM_ROLE", variable(container, "IAM_ROLE")],
  ]);
}

export type ContainerPolicySource = "label ec2metaproxy.Policy" | "env IAM_POLICY";

/** The session policies that a container sets, in order of precedence. */
export function requestedPolicies(container: Container): readonly Requested<ContainerPolicySource>[] {
  return nonEmpty([
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

/** Own properties only: `labels.constructor` exists on every object. */
export function label(container: Container, name: string): string | undefined {
  return Object.hasOwn(container.labels, name) ? container.labels[name] : undefined;
}

function variable(container: Container, name: "IAM_ROLE" | "IAM_POLICY"): string | undefined {
  return Object.hasOwn(container.env, name) ? container.env[name] : undefined;
}

/** Drops missing and blank values. */
function nonEmpty<Source extends string>(
  values: readonly (readonly [source: Source, value: string | undefined])[],
): readonly Requested<Source>[] {
  return values.flatMap(([source, value]) => {
    const trimmed = value?.trim() ?? "";
    return trimmed === "" ? [] : [{ source, value: trimmed }];
  });
}
