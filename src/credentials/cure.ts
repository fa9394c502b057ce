import { type AssumeRoleError, isHostCredentialCode } from "./assume-role.ts";

/** What an operator can do about an error of AssumeRole; empty where waiting is all. */
export function cureOf({ kind, code, message }: Pick<AssumeRoleError, "kind" | "code" | "message">): string {
  if (kind === "throttled") return "Calls slow down by themselves. Ask AWS for a higher quota if it goes on.";
  if (code.startsWith("AccessDenied"))
    return "The policy of the host's role must allow sts:AssumeRole on it, and its trust policy must name the host's role: docs/iam.md.";
  if (code === "RegionDisabledException") return "Activate the region in the account, or set sts.region.";
  if (code === "HostCredentialsUnavailable")
    return /no instance profile|lists no role/.test(message)
      ? "Attach an instance profile to the instance."
      : "The host's own credentials come from the metadata service: is it turned on for this instance, and reachable from it?";
  if (kind === "temporary" && isHostCredentialCode(code))
    return "STS does not accept the host's own credentials: check the host's clock, its instance profile or its keys.";
  if (kind === "refused") return "Correct the alias in the configuration: ec2metaproxy.json(5).";
  if (code === "ENOTFOUND" || code === "EAI_AGAIN")
    return "The name of the STS endpoint cannot be resolved: check the host's DNS, sts.region and sts.endpoint.";
  return "Can this host reach STS? Check its route, its security group, HTTPS_PROXY, or the VPC endpoint.";
}
