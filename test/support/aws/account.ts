/**
 * The invented instance and account of the stand-in, and the markers that make a leak visible.
 *
 * Every body that no container may see (credentials of the host's role, of the instance identity role, of
 * other ECS tasks; user-data) contains `leakMarker`. So `body.includes(leakMarker)` on everything that a
 * client received is a complete leak test.
 */

/** In the secret key and session token of all credentials of the host, and in user-data. */
export const leakMarker = "HOST-SECRET-LEAK";

/** The same marker in access key ids, which consist of letters and digits only. */
export const leakKeyMarker = "HOSTSECRETLEAK";

/** In the signatures of the identity document, which prove that the holder is this instance. */
export const identityProofMarker = "HOST-IDENTITY-PROOF";

/** In the secret keys that AssumeRole issued: clients may see them, logs must not. */
export const issuedSecretMarker = "ISSUED-SECRET";

/** In the session tokens that AssumeRole issued. */
export const issuedTokenMarker = "ISSUEDTOKEN";

/** True if the text contains a secret of the host in any form that the stand-in issues. */
export function leaksHostSecret(text: string): boolean {
  return text.includes(leakMarker) || text.includes(leakKeyMarker);
}

export const account = {
  id: "123456789012",
  partition: "aws",
  region: "eu-west-1",
  /**
   * The host's role and instance profile. Their names appear only in `iam/info` and in the host's own
   * identity.
   */
  hostRole: "ec2-host-role",
  hostProfile: "ec2-host-profile",
} as const;

export const instance = {
  id: "i-0abcdef0123456789",
  type: "t3.medium",
  amiId: "ami-0123456789abcdef0",
  availabilityZone: "eu-west-1b",
  availabilityZoneId: "euw1-az2",
  architecture: "x86_64",
  mac: "0e:49:61:0f:c3:11",
  interfaceId: "eni-0123456789abcdef0",
  privateIp: "10.0.1.23",
  publicIp: "203.0.113.25",
  subnetId: "subnet-0123456789abcdef0",
  vpcId: "vpc-0123456789abcdef0",
  securityGroup: "docker-host",
  securityGroupId: "sg-0123456789abcdef0",
  reservationId: "r-0123456789abcdef0",
  /** The launch time; a fixed date, so that answers can be compared. */
  launchedAt: Date.UTC(2026, 0, 15, 8, 30, 0),
} as const;
