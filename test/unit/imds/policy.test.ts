import { readFile } from "node:fs/promises";
import t from "tap";
import { configSchema } from "../../../src/config/schema.ts";
import {
  categoryProblem,
  editListing,
  editVersionRoot,
  passthroughPolicy,
} from "../../../src/imds/policy.ts";
import { sharing } from "../../../src/imds/upstream-cache.ts";

const settings = (passthrough: object) => configSchema.parse({ passthrough }).passthrough;
const usual = passthroughPolicy(settings({}));

t.test("by default a container reads only metadata that says where it runs", async (t) => {
  for (const category of [
    "instance-id",
    "placement",
    "placement/region",
    "network/interfaces/macs/0e:00:00:00:00:01/vpc-id",
    "spot/instance-action",
    "mac",
  ])
    await t.test(`${category} is allowed`, async (t) =>
      t.same(usual.permits(category), { allowed: true, partly: false }),
    );
  for (const category of [
    "user-data",
    "dynamic/fws",
    "dynamic/instance-identity/pkcs7",
    "dynamic/instance-identity/signature",
    "dynamic/instance-identity/documents",
    "managed-ssh-keys",
    "public-keys",
    "tags/instance/Name",
    "placements",
    "placement2/region",
  ])
    await t.test(`${category} is not allowed`, async (t) =>
      t.match(usual.permits(category), {
        allowed: false,
        code: "category-not-allowed",
        reason: new RegExp(category),
      }),
    );
});

t.test("credentials of the host are never permitted, whatever the configuration says", async (t) => {
  const names = [
    "iam",
    "iam/info",
    "iam/security-credentials/r",
    "iam-ecs-1/info",
    "identity-credentials/ec2/info",
    "x/credentials",
  ];
  const all = passthroughPolicy({ ...settings({}), allow: [...names, "identity-credentials", "x"] });
  for (const name of names)
    await t.test(`${name} is never allowed`, async (t) =>
      t.match(all.permits(name), { allowed: false, code: "category-never" }),
    );
});

t.test("deny takes precedence over allow, on segment boundaries", async (t) => {
  const policy = passthroughPolicy(
    settings({ allow: ["network", "user-data"], deny: ["network/interfaces/", "user-data"] }),
  );
  t.same(policy.permits("network"), { allowed: true, partly: true });
  t.match(policy.permits("network/interfaces"), {
    allowed: false,
    code: "category-denied",
    reason: /network\/interfaces/,
  });
  t.match(policy.permits("network/interfaces/macs"), { allowed: false, code: "category-denied" });
  t.same(policy.permits("network/interfaces2"), { allowed: true, partly: false });
  t.match(policy.permits("user-data"), { allowed: false, code: "category-denied" });
});

t.test("a listing above an allowed category shows only the entries that lead to it", async (t) => {
  const policy = passthroughPolicy(settings({ allow: ["dynamic/instance-identity/document"] }));
  t.same(policy.permits("dynamic"), { allowed: true, partly: true });
  t.same(policy.permits("dynamic/instance-identity"), { allowed: true, partly: true });
  t.match(policy.permits("dynamic/instance-identity/pkcs7"), { allowed: false });
  const listing = "document\npkcs7\nrsa2048\nsignature";
  t.equal(editListing(listing, policy, { hasRole: true, below: "dynamic/instance-identity" }), "document");
  t.equal(
    editListing("fws/\ninstance-identity/", policy, { hasRole: true, below: "dynamic" }),
    "instance-identity/",
  );
});

t.test("nothing is permitted if pass-through is disabled", async (t) => {
  const policy = passthroughPolicy(settings({ enabled: false }));
  t.match(policy.permits("instance-id"), { allowed: false, code: "passthrough-disabled" });
});

t.test(
  "the metadata listing shows iam/ only to a container with a role, and nothing that is denied",
  async (t) => {
    const real =
      "ami-id\nhibernation/\niam/\niam-ecs-12/\nidentity-credentials/\ninstance-id\nmanaged-ssh-keys/\nplacement/\npublic-keys/\nservices/\nsystem";
    t.equal(
      editListing(real, usual, { hasRole: true }),
      "ami-id\nhibernation/\niam/\ninstance-id\nplacement/\nservices/\nsystem",
    );
    t.equal(
      editListing(real, usual, { hasRole: false }),
      "ami-id\nhibernation/\ninstance-id\nplacement/\nservices/\nsystem",
    );
    t.equal(editListing("ami-id", usual, { hasRole: true }), "ami-id\niam/", "the host itself has no role");
    t.equal(editListing("", usual, { hasRole: true }), "iam/");
    t.equal(editListing("", usual, { hasRole: false }), "");
  },
);

t.test("the version's listing always shows meta-data, and the rest if it can be read", async (t) => {
  t.equal(editVersionRoot("dynamic\nmeta-data\nuser-data", usual), "dynamic\nmeta-data");
  const more = passthroughPolicy(settings({ allow: ["user-data", "dynamic/instance-identity"] }));
  t.equal(editVersionRoot("dynamic\nmeta-data\nuser-data", more), "dynamic\nmeta-data\nuser-data");
});

t.test("a category that can never be forwarded is a configuration error", async (t) => {
  const wrong: readonly [string, RegExp][] = [
    ["iam", /iam\/ itself/],
    ["iam/info", /iam\/ itself/],
    ["iam-ecs-1", /ECS/],
    ["identity-credentials/ec2", /credentials of the host/],
    ["meta-data/placement", /without meta-data\/: placement/],
    ["latest", /without the version/],
    ["2021-03-23", /without the version/],
    ["api", /itself/],
    ["user-data/x", /nothing below/],
    ["placement/..", /dots/],
  ];
  for (const [category, expected] of wrong)
    await t.test(`${category} is an error`, async (t) => t.match(categoryProblem(category), expected));
  for (const category of [
    ...settings({}).allow,
    "user-data",
    "dynamic/instance-identity/",
    "tags",
    "managed-ssh-keys",
  ])
    await t.test(`${category} is no error`, async (t) => t.equal(categoryProblem(category), undefined));
});

t.test("docs/passthrough.md explains each category that is allowed by default, and no other", async (t) => {
  const text = await readFile(new URL("../../../docs/passthrough.md", import.meta.url), "utf8");
  const table = text.slice(text.indexOf("## Allowed by default"), text.indexOf("## Not allowed by default"));
  const explained = [...table.matchAll(/^\| `([^`]+)` \|/gm)].map(([, category]) => category);
  t.same(explained, [...settings({}).allow].sort());
});

t.test("docs/passthrough.md names the categories that are cached", async (t) => {
  const text = await readFile(new URL("../../../docs/passthrough.md", import.meta.url), "utf8");
  const row = text.split("\n").find((line) => line.includes("`cacheSeconds`; a 404")) ?? "";
  const kept = new Set(
    [...row.slice(0, row.indexOf("`cacheSeconds`")).matchAll(/`([^`]+)`/g)].map(([, category]) => category),
  );
  t.ok(kept.size > 10);
  for (const category of settings({}).allow)
    t.equal(sharing(`/latest/meta-data/${category}`) === "kept", kept.has(category), category);
});
