import t from "tap";
import { failureOf } from "../../../src/credentials/diagnosis.ts";
import type { FailureName } from "../../../src/credentials/failures.ts";

// What a stand-in on loopback cannot do; failures.test.ts has the rest with real answers.
const rows: readonly (readonly [code: string, failure: FailureName])[] = [
  ["EHOSTUNREACH", "no-route"],
  ["ENETUNREACH", "no-route"],
  ["EPERM", "no-route"],
  ["EMFILE", "out-of-resources"],
  ["ENOMEM", "out-of-resources"],
  ["EAI_AGAIN", "dns-failing"],
  ["ENOTFOUND", "dns-no-such-name"],
  ["ETIMEDOUT", "sts-timeout"],
  ["CERT_NOT_YET_VALID", "tls-expired"],
  ["SELF_SIGNED_CERT_IN_CHAIN", "tls-untrusted"],
  ["ERR_SSL_WRONG_VERSION_NUMBER", "tls-protocol"],
  ["RequestExpired", "clock-wrong"],
  ["IncompleteSignature", "signature-missing"],
  ["InvalidParameterValue", "invalid-parameter"],
  ["SomethingElse", "unknown"],
];

for (const [code, failure] of rows)
  t.test(`${code} is ${failure}`, async (t) => {
    t.equal(failureOf({ kind: "temporary", code, message: "", httpStatus: undefined }), failure);
  });

t.test("a message that a container wrote into its policy does not choose another entry", async (t) => {
  const message = "explicit deny: no identity-based policy allows; MaxSessionDuration";
  const evidence = { kind: "refused", code: "MalformedPolicyDocument", message, httpStatus: 400 } as const;
  t.equal(failureOf(evidence), "malformed-policy");
});

t.test("a code that a member of every object has is unknown, not an error", async (t) => {
  t.equal(
    failureOf({ kind: "temporary", code: "constructor", message: "", httpStatus: undefined }),
    "unknown",
  );
});
