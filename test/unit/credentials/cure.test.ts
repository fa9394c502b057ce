import t from "tap";
import { AssumeRoleError, type FailureKind } from "../../../src/credentials/assume-role.ts";
import { cureOf } from "../../../src/credentials/cure.ts";

const rows: readonly (readonly [kind: FailureKind, code: string, message: string, cure: RegExp])[] = [
  ["refused", "AccessDenied", "not authorized", /trust policy/],
  ["refused", "RegionDisabledException", "not activated", /Activate the region/],
  ["refused", "ValidationError", "exceeds the MaxSessionDuration", /Correct the alias/],
  ["throttled", "Throttling", "Rate exceeded", /slow down by themselves/],
  ["temporary", "ExpiredToken", "expired", /clock/],
  ["temporary", "HostCredentialsUnavailable", "it lists no role", /Attach an instance profile/],
  ["temporary", "HostCredentialsUnavailable", "status 403", /turned on for this instance/],
  ["temporary", "ENOTFOUND", "getaddrinfo", /DNS/],
  ["temporary", "ECONNRESET", "socket hang up", /security group/],
];

for (const [kind, code, message, cure] of rows)
  t.test(`${code} (${message}) has a cure of its own`, (t) => {
    t.match(cureOf(new AssumeRoleError(kind, code, message)), cure);
    t.end();
  });
