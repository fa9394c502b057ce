import t from "tap";
import { keyOf } from "../../../src/credentials/assume-role.ts";
import {
  type Credentials,
  documentsOf,
  failureDocuments,
  roleNameOf,
} from "../../../src/credentials/document.ts";
import type { RoleRequest } from "../../../src/roles/grant.ts";

const credentials: Credentials = {
  accessKeyId: "ASIAEXAMPLE",
  secretAccessKey: "wJalr/XUtn+FEMI",
  sessionToken: "IQoJb3JpZ2luX2Vj==",
  fetchedAt: Date.UTC(2026, 0, 2, 3, 4, 5, 999),
  expiresAt: Date.UTC(2026, 0, 2, 4, 4, 5, 999),
  lifetimeMs: 3_600_000,
  accountId: "123456789012",
  assumedRoleArn: "arn:aws:sts::123456789012:assumed-role/db/web",
  assumedRoleId: "AROAEXAMPLEID:web",
};
const roleArn = "arn:aws-cn:iam::123456789012:role/containers/a/db";

t.test(
  "the credential document is EC2's, byte for byte: order, spaces, whole seconds rounded down, no last newline",
  async (t) => {
    t.equal(
      String(documentsOf(credentials, roleArn).imds),
      `{
  "Code" : "Success",
  "LastUpdated" : "2026-01-02T03:04:05Z",
  "Type" : "AWS-HMAC",
  "AccessKeyId" : "ASIAEXAMPLE",
  "SecretAccessKey" : "wJalr/XUtn+FEMI",
  "Token" : "IQoJb3JpZ2luX2Vj==",
  "Expiration" : "2026-01-02T04:04:05Z"
}`,
    );
  },
);

t.test(
  "the extended document adds the account, iam/info names an instance profile of the role's name",
  async (t) => {
    const documents = documentsOf(credentials, roleArn);
    t.match(JSON.parse(String(documents.extended)), { Code: "Success", AccountId: "123456789012" });
    t.match(String(documents.extended), /Expiration" : "[^"]+",\n {2}"AccountId" : "123456789012"\n}$/);
    t.same(JSON.parse(String(documents.info)), {
      Code: "Success",
      LastUpdated: "2026-01-02T03:04:05Z",
      InstanceProfileArn: "arn:aws-cn:iam::123456789012:instance-profile/containers/a/db",
      InstanceProfileId: "AROAEXAMPLEID",
    });
  },
);

t.test("the container credentials document has what botocore, Go, Rust and JS need", async (t) => {
  t.same(JSON.parse(String(documentsOf(credentials, roleArn).container)), {
    RoleArn: roleArn,
    AccessKeyId: "ASIAEXAMPLE",
    SecretAccessKey: "wJalr/XUtn+FEMI",
    Token: "IQoJb3JpZ2luX2Vj==",
    Expiration: "2026-01-02T04:04:05Z",
    AccountId: "123456789012",
  });
});

t.test("each document is made once", async (t) => {
  const documents = documentsOf(credentials, roleArn);
  for (const name of ["imds", "extended", "info", "container"] as const)
    t.equal(documents[name], documents[name]);
});

t.test("a failure is readable in both forms, whatever its message holds", async (t) => {
  const message = 'quotes " and \n lines';
  const documents = failureDocuments(
    { code: "MalformedPolicyDocument", message },
    credentials.fetchedAt,
    403,
  );
  t.same(JSON.parse(String(documents.imds)), {
    Code: "MalformedPolicyDocument",
    Message: message,
    LastUpdated: "2026-01-02T03:04:05Z",
  });
  t.equal(documents.imds[0], 0x7b, "the first byte is {, by which boto 2 knows JSON");
  t.match(JSON.parse(String(documents.container)), {
    code: "MalformedPolicyDocument",
    message,
    Message: message,
  });
});

t.test("a role's name is what stands after its path", async (t) => {
  t.equal(roleNameOf(roleArn), "db");
  t.equal(roleNameOf("arn:aws:iam::123456789012:role/plain"), "plain");
});

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
