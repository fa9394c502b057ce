import t from "tap";
import { keyOf, kindOf } from "../../../src/credentials/assume-role.ts";
import type { RoleRequest } from "../../../src/roles/grant.ts";

const kinds = {
  refused: [
    ["AccessDenied", 403],
    ["AccessDeniedException", 400],
    ["MalformedPolicyDocument", 400],
    ["PackedPolicyTooLarge", 400],
    ["RegionDisabledException", 403],
    ["ValidationError", 400],
    ["InvalidParameterValue", 400],
    ["SomethingThatStsSaysFromNextYearOn", 400],
  ],
  throttled: [
    ["Throttling", 400],
    ["ThrottlingException", 400],
    ["RequestLimitExceeded", 503],
    ["AccessDenied", 429],
  ],
  temporary: [
    ["AccessDenied", 500],
    ["AccessDenied", 404],
    ["AccessDenied", 407],
    ["AccessDenied", 302],
    ["AccessDenied", undefined],
    ["InternalFailure", 500],
    ["ServiceUnavailable", 503],
    ["ServiceUnavailable", 400],
    ["RequestTimeout", 408],
    ["IDPCommunicationError", 400],
    ["ExpiredToken", 403],
    ["ExpiredTokenException", 400],
    ["InvalidClientTokenId", 403],
    ["SignatureDoesNotMatch", 403],
    ["RequestTimeTooSkewed", 403],
    ["OptInRequired", 403],
    ["MissingAuthenticationToken", 403],
    ["InvalidAction", 400],
    ["MissingAction", 400],
    ["MalformedQueryString", 404],
  ],
} as const;
for (const [kind, cases] of Object.entries(kinds))
  for (const [code, status] of cases)
    t.test(`${code} with status ${status ?? "unknown"} is ${kind}`, async (t) => {
      t.equal(kindOf(code, status), kind);
    });

const roleArn = "arn:aws-cn:iam::123456789012:role/containers/a/db";
const base: RoleRequest = { roleArn, sessionName: "web", durationSeconds: 3600 };
const variants: readonly RoleRequest[] = [
  base,
  { ...base, roleArn: `${roleArn}2` },
  { ...base, sessionName: "web2" },
  { ...base, durationSeconds: 900 },
  { ...base, policy: "{}" },
  { ...base, policyArns: ["arn:aws:iam::aws:policy/ReadOnlyAccess"] },
  { ...base, tags: { a: "b" } },
  { ...base, tags: { a: "c" } },
  { ...base, externalId: "web" },
  { ...base, sourceIdentity: "web" },
];

t.test("two requests share a key only if they are equal in every input", async (t) => {
  t.equal(new Set(variants.map(keyOf)).size, variants.length);
  t.equal(keyOf({ ...base, tags: { a: "1", b: "2" } }), keyOf({ ...base, tags: { b: "2", a: "1" } }));
});
