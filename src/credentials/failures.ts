/**
 * Everything that can keep a role from being assumed: what the host's metadata service, the way to STS, STS
 * and IAM can do. One name each, with its cause and its cure in words; the log, `status` and `check` print
 * these, and ec2metaproxy-refusals(7) lists them. Names may be added, never changed.
 */
type Entry = { readonly cause: string; readonly cure: string };

const metadataFailures = {
  "metadata-unreachable": {
    cause: "nothing answers at the address of the instance metadata service",
    cure: "Is this an EC2 instance? Check metadataEndpoint. Outside EC2, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in /etc/ec2metaproxy/environment.",
  },
  "metadata-timeout": {
    cause: "the instance metadata service does not answer in time",
    cure: "Try `curl -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token` as root. If that hangs too, a firewall or a route of this host swallows it; if not, a rule for the service's user does.",
  },
  "metadata-disabled": {
    cause:
      "the instance metadata service answers 403: it is turned off for this instance, or metadataEndpoint is the address of this proxy",
    cure: "Turn it on: `aws ec2 modify-instance-metadata-options --instance-id ID --http-endpoint enabled --http-tokens required`. Check metadataEndpoint.",
  },
  "metadata-token-rejected": {
    cause: "the instance metadata service rejects the session token that it has just issued (401)",
    cure: "Another metadata proxy probably answers some of the requests: check metadataEndpoint, and redirect rules for 169.254.169.254 that are not ec2metaproxy's.",
  },
  "metadata-no-tokens": {
    cause: "the service at metadataEndpoint issues no session tokens (IMDSv2)",
    cure: "Check metadataEndpoint: the metadata service of EC2 always issues them.",
  },
  "metadata-throttled": {
    cause: "the instance metadata service answers 429: too many requests from this instance",
    cure: "It recovers by itself. Find out what else on this host requests metadata, and lower passthrough.requestsPerSecond.",
  },
  "metadata-failing": {
    cause: "the instance metadata service fails or gives an answer that cannot be used",
    cure: "It recovers by itself if EC2 has a problem; otherwise check that metadataEndpoint is the address of the metadata service.",
  },
  "no-instance-profile": {
    cause: "the instance has no instance profile, so the host has no credentials to assume roles with",
    cure: "Attach one: `aws ec2 associate-iam-instance-profile --instance-id ID --iam-instance-profile Name=PROFILE`. docs/iam.md has its policies.",
  },
  "instance-role-unusable": {
    cause: "the instance profile has no role that EC2 can assume, so the host has no credentials",
    cure: "The profile must contain a role, and the role's trust policy must allow ec2.amazonaws.com to assume it.",
  },
  "region-unknown": {
    cause: "the region of STS is not known: the instance metadata service does not name one",
    cure: "Set sts.region in config.json, or AWS_REGION in /etc/ec2metaproxy/environment.",
  },
} satisfies Record<string, Entry>;

const networkFailures = {
  "dns-no-such-name": {
    cause: "the name of the STS endpoint does not exist",
    cure: "Check sts.region, sts.endpoint, sts.useFips and sts.useDualstack: not every region has every endpoint. In a VPC without internet access, an interface endpoint for STS needs private DNS names.",
  },
  "dns-failing": {
    cause: "the name of the STS endpoint cannot be resolved: no DNS server answers",
    cure: "Check /etc/resolv.conf and the way to its servers: `getent hosts sts.REGION.amazonaws.com`.",
  },
  "connection-refused": {
    cause: "nothing listens at the address of STS",
    cure: "Check sts.endpoint, AWS_ENDPOINT_URL_STS and AWS_ENDPOINT_URL, and what the endpoint's name resolves to.",
  },
  "connection-reset": {
    cause: "the connection to STS was closed before an answer",
    cure: "If it lasts, a firewall or a proxy on the way closes it: check security groups, network ACLs and the policy of the VPC endpoint.",
  },
  "no-route": {
    cause: "there is no way from this host to STS",
    cure: "Check routes, NAT gateway and interfaces. A private subnet needs a NAT gateway, an HTTPS_PROXY, or a VPC endpoint for STS. Rules of this host may also reject the connection.",
  },
  "sts-timeout": {
    cause: "STS does not answer in time",
    cure: "Check the way to it: a security group or network ACL without outgoing port 443, a subnet without NAT gateway or VPC endpoint, or an HTTPS_PROXY that hangs.",
  },
  "out-of-resources": {
    cause: "this host ran out of file descriptors, memory or ports",
    cure: "Look at `systemctl show ec2metaproxy -p LimitNOFILE -p MemoryCurrent`, and at what else uses them.",
  },
  "tls-untrusted": {
    cause: "the certificate of STS is signed by an authority that is not trusted here",
    cure: "If a proxy inspects TLS, set AWS_CA_BUNDLE in /etc/ec2metaproxy/environment to a PEM file with its authority.",
  },
  "tls-expired": {
    cause: "the certificate of STS has expired or is not valid yet, by this host's clock",
    cure: "Check this host's clock (`timedatectl`); if it is right, what answers is not STS.",
  },
  "tls-name": {
    cause: "the certificate is for another name than that of the STS endpoint",
    cure: "Check sts.endpoint and what its name resolves to: something else answers there.",
  },
  "tls-protocol": {
    cause: "what answers at the STS endpoint does not speak TLS as expected",
    cure: "Check http:// and https:// in sts.endpoint, AWS_ENDPOINT_URL_STS and HTTPS_PROXY.",
  },
  "proxy-unreachable": {
    cause: "the proxy of HTTPS_PROXY or HTTP_PROXY cannot be reached",
    cure: "Check the variable in /etc/ec2metaproxy/environment, and that the proxy runs. NO_PROXY names hosts that need none.",
  },
  "proxy-auth": {
    cause: "the proxy of HTTPS_PROXY wants a user and password (407)",
    cure: "Write http://USER:PASSWORD@HOST:PORT in /etc/ec2metaproxy/environment, with mode 0600.",
  },
  "proxy-refused": {
    cause: "the proxy of HTTPS_PROXY does not connect to STS",
    cure: "Allow the endpoint's name and port 443 in the proxy, or set NO_PROXY. The proxy's log has its reason.",
  },
  "not-from-sts": {
    cause: "something between this host and STS answered in its place",
    cure: "A proxy, firewall or login page: check HTTPS_PROXY, sts.endpoint and what the endpoint's name resolves to.",
  },
  "answer-unusable": {
    cause: "STS's answer was incomplete, or not the one that was requested",
    cure: "If it lasts, something on the way changes it: check HTTPS_PROXY and sts.endpoint.",
  },
  "sts-failing": {
    cause: "STS reports an error of its own",
    cure: "It recovers by itself; health.aws.amazon.com shows outages.",
  },
  "not-sts": {
    cause: "the service at the STS endpoint does not know the call",
    cure: "Check sts.endpoint, AWS_ENDPOINT_URL_STS and AWS_ENDPOINT_URL: they name another service.",
  },
  throttled: {
    cause: "STS throttles the account that the host's credentials belong to",
    cure: "It recovers by itself. All hosts of the account share 600 calls a second per region: lower sts.callsPerSecond, or set sts.startSpreadSeconds on fleets.",
  },
} satisfies Record<string, Entry>;

const hostKeyFailures = {
  "region-disabled": {
    cause: "STS is not activated in this region for the account",
    cure: "Activate it (IAM console, Account settings, STS endpoints), or set sts.region to another region.",
  },
  "keys-expired": {
    cause: "the host's credentials have expired, and the metadata service has no newer ones",
    cure: "Check this host's clock (`timedatectl`) and that the instance profile is still attached; reattaching it makes EC2 issue new ones.",
  },
  "environment-keys-expired": {
    cause: "the AWS_SESSION_TOKEN of the environment has expired",
    cure: "Write new keys to /etc/ec2metaproxy/environment and restart the service, or remove them to use the instance profile.",
  },
  "keys-invalid": {
    cause: "STS does not know the host's access key",
    cure: "It was deleted or deactivated, it is of another partition than the endpoint (sts.region), or AWS_SESSION_TOKEN is missing or belongs to other keys. Check /etc/ec2metaproxy/environment.",
  },
  "signature-wrong": {
    cause: "STS computes another signature than the host: the secret key does not belong to the access key",
    cure: "Check AWS_SECRET_ACCESS_KEY in /etc/ec2metaproxy/environment. Without keys there, a proxy on the way changes the request.",
  },
  "clock-wrong": {
    cause: "this host's clock differs from that of STS by more than five minutes",
    cure: "Set it: `timedatectl set-ntp true`; chrony can use the server at 169.254.169.123.",
  },
  "signature-missing": {
    cause: "STS received the call without its signature, or with half of it",
    cure: "A proxy on the way removes or changes headers: check HTTPS_PROXY and sts.endpoint.",
  },
  "account-inactive": {
    cause: "the account of the host's credentials may not use STS",
    cure: "Its registration is incomplete, or it is suspended: see its billing pages.",
  },
} satisfies Record<string, Entry>;

const roleFailures = {
  "trust-or-permission": {
    cause: "IAM does not let the host assume the role, or there is no such role",
    cure: "Three things must agree: the role exists under this ARN, its trust policy names the host's role (and sts:ExternalId matches externalId), and the host's role may sts:AssumeRole on it. docs/iam.md has both policies.",
  },
  "host-permission": {
    cause: "no policy of the host's role allows sts:AssumeRole on the role",
    cure: "Add it to the policies of the instance's role: docs/iam.md.",
  },
  "trust-policy": {
    cause: "the role's trust policy does not allow the host",
    cure: "Add the ARN of the instance's role to it as a principal: docs/iam.md.",
  },
  "explicit-deny": {
    cause: "a policy denies the host sts:AssumeRole on the role; STS's message names its kind",
    cure: "Look for a Deny: in the service or resource control policies of the organization, the permissions boundary or policies of the host's role, or the role's trust policy.",
  },
  "session-or-boundary": {
    cause:
      "a session policy, a permissions boundary or a control policy of the host does not allow sts:AssumeRole on the role; STS's message names its kind",
    cure: "Allow it there: session policies and boundaries limit what the host's own policies allow.",
  },
  "tag-permission": {
    cause: "the alias has tags, and sts:TagSession is not allowed",
    cure: "Allow sts:TagSession in the role's trust policy and in the host's policy, or remove the alias's tags.",
  },
  "source-identity-permission": {
    cause: "the alias has a sourceIdentity, and sts:SetSourceIdentity is not allowed",
    cure: "Allow sts:SetSourceIdentity in the role's trust policy and in the host's policy, or remove sourceIdentity.",
  },
  "first-role-refused": {
    cause: "the role of sts.assumeFirst cannot be assumed, so no container's role can",
    cure: "Its trust policy must name the host's role, which must be allowed sts:AssumeRole on it. Or remove sts.assumeFirst.",
  },
  "duration-over-role-maximum": {
    cause: "durationSeconds is longer than the role's maximum session duration",
    cure: "Lower the alias's durationSeconds, or raise the role's maximum: `aws iam update-role --role-name NAME --max-session-duration SECONDS`.",
  },
  "duration-over-chaining-limit": {
    cause: "STS limits this host's sessions of the role to one hour (role chaining)",
    cure: "Set the alias's durationSeconds to 3600, or leave it out.",
  },
  "malformed-policy": {
    cause: "IAM does not accept the session policy",
    cure: "`ec2metaproxy explain CONTAINER` shows it and where it comes from; correct it there. `aws accessanalyzer validate-policy` finds the mistake.",
  },
  "policy-too-large": {
    cause: "the session policies and tags together are too large",
    cure: "Shorten the session policy, use policyArns instead, or remove tags. `ec2metaproxy explain CONTAINER` shows them.",
  },
  "invalid-parameter": {
    cause: "STS does not accept a parameter of the call; its message names it",
    cure: "Check the alias's roleArn, policyArns (at most 10, of the role's account), tags, externalId and sourceIdentity.",
  },
  "refused-otherwise": {
    cause: "STS refuses the role for a reason that this version does not know",
    cure: "Look up STS's code and message in the AWS documentation.",
  },
  unknown: {
    cause: "the call failed for a reason that this version does not know",
    cure: "The log line has the error. Please report it.",
  },
} satisfies Record<string, Entry>;

/** By section, for the manual page. */
export const failureSections = { metadataFailures, networkFailures, hostKeyFailures, roleFailures };

export const failures = { ...metadataFailures, ...networkFailures, ...hostKeyFailures, ...roleFailures };

export type FailureName = keyof typeof failures;
