import t from "tap";
import { configSchema } from "../../../src/config/schema.ts";
import { type Classified, classify, upstreamPath } from "../../../src/imds/paths.ts";
import { passthroughPolicy } from "../../../src/imds/policy.ts";
import { type PathCode, refusals } from "../../../src/imds/refusals.ts";
import { printable } from "../../../src/text.ts";
import { pathVariants } from "../../support/path-variants.ts";

const list = { kind: "role-list", extended: false } as const;
const extendedList = { kind: "role-list", extended: true } as const;
const role = (name: string, extended = false) =>
  ({ kind: "role-credentials", extended, role: name }) as const;
const metadata = (path: string, category: string) => ({ kind: "metadata", path, category }) as const;

const accepted: readonly [client: string, method: string, target: string, Classified][] = [
  ["every SDK", "PUT", "/latest/api/token", { kind: "token", version: "latest" }],
  ["botocore, JS, Go, Rust, Ruby, PHP, CRT", "GET", "/latest/meta-data/iam/security-credentials/", list],
  ["C++, .NET, Java's EC2MetadataUtils", "GET", "/latest/meta-data/iam/security-credentials", list],
  ["every SDK", "GET", "/latest/meta-data/iam/security-credentials/my-role", role("my-role")],
  [
    "a role with every character that IAM allows",
    "GET",
    "/latest/meta-data/iam/security-credentials/A_b+c=d,e.f@g-1",
    role("A_b+c=d,e.f@g-1"),
  ],
  [
    "a client that encodes them",
    "GET",
    "/latest/meta-data/iam/security-credentials/a%2Bb%3Dc%2Cd%40e",
    role("a+b=c,d@e"),
  ],
  ["a role that looks like a folder", "GET", "/latest/meta-data/iam/security-credentials/a..b", role("a..b")],
  ["a slash after the role", "GET", "/latest/meta-data/iam/security-credentials/my-role/", role("my-role")],
  ["ex_aws before 2.0: two slashes", "GET", "/latest/meta-data//iam/security-credentials/", list],
  ["boto 2", "GET", "/latest/meta-data/iam/security-credentials/my-role", role("my-role")],
  ["an old version", "GET", "/2009-04-04/meta-data/iam/security-credentials/", list],
  ["the oldest version", "GET", "/1.0/meta-data/iam/security-credentials/r", role("r")],
  ["Java, PHP", "GET", "/latest/meta-data/iam/security-credentials-extended/", extendedList],
  ["Java, PHP", "GET", "/latest/meta-data/iam/security-credentials-extended", extendedList],
  ["Java, PHP", "GET", "/latest/meta-data/iam/security-credentials-extended/r", role("r", true)],
  ["Go v1", "GET", "/latest/meta-data/iam/info", { kind: "iam-info" }],
  ["Go v1", "GET", "/latest/meta-data/iam/info/", { kind: "iam-info" }],
  ["a crawler", "GET", "/latest/meta-data/iam/", { kind: "iam-listing" }],
  ["a crawler", "GET", "/latest/meta-data/iam", { kind: "iam-listing" }],
  [
    "botocore's region",
    "GET",
    "/latest/meta-data/placement/availability-zone/",
    metadata("/latest/meta-data/placement/availability-zone/", "placement/availability-zone"),
  ],
  [
    "C++'s region",
    "GET",
    "/latest/meta-data/placement/availability-zone",
    metadata("/latest/meta-data/placement/availability-zone", "placement/availability-zone"),
  ],
  [
    "Rust's region",
    "GET",
    "/latest/meta-data/placement/region",
    metadata("/latest/meta-data/placement/region", "placement/region"),
  ],
  [
    "Go's, Java's and .NET's region",
    "GET",
    "/latest/dynamic/instance-identity/document",
    metadata("/latest/dynamic/instance-identity/document", "dynamic/instance-identity/document"),
  ],
  [
    "Go's Available",
    "GET",
    "/latest/meta-data/instance-id",
    metadata("/latest/meta-data/instance-id", "instance-id"),
  ],
  [
    "cloud-init's probe",
    "GET",
    "/2021-03-23/meta-data/instance-id",
    metadata("/2021-03-23/meta-data/instance-id", "instance-id"),
  ],
  [
    "cloud-init's crawl",
    "GET",
    "/2021-03-23/meta-data/",
    { kind: "metadata-root", path: "/2021-03-23/meta-data/" },
  ],
  [
    "cloud-init's crawl",
    "GET",
    "/2021-03-23/dynamic/instance-identity",
    metadata("/2021-03-23/dynamic/instance-identity", "dynamic/instance-identity"),
  ],
  ["cloud-init", "GET", "/2016-09-02/user-data", metadata("/2016-09-02/user-data", "user-data")],
  [
    "afterburn",
    "GET",
    "/2021-01-03/meta-data/public-ipv4",
    metadata("/2021-01-03/meta-data/public-ipv4", "public-ipv4"),
  ],
  ["old Terraform", "GET", "/latest", { kind: "version-root", path: "/latest" }],
  ["curl", "GET", "/latest/", { kind: "version-root", path: "/latest/" }],
  ["curl", "GET", "/", { kind: "version-list", path: "/" }],
  ["the ECS agent", "GET", "/latest/meta-data", { kind: "metadata-root", path: "/latest/meta-data/" }],
  ["HEAD", "HEAD", "/latest/meta-data/ami-id", metadata("/latest/meta-data/ami-id", "ami-id")],
  ["HEAD", "HEAD", "/latest/meta-data/iam/security-credentials/", list],
  [
    "a script with $MAC/",
    "GET",
    "/latest/meta-data/network/interfaces/macs/0e:1f:2a:3b:4c:5d//vpc-id",
    metadata(
      "/latest/meta-data/network/interfaces/macs/0e:1f:2a:3b:4c:5d/vpc-id",
      "network/interfaces/macs/0e:1f:2a:3b:4c:5d/vpc-id",
    ),
  ],
  [
    "a client that encodes a MAC",
    "GET",
    "/latest/meta-data/network/interfaces/macs/0e%3A1f%3a2a:3b:4c:5d/vpc-id",
    metadata(
      "/latest/meta-data/network/interfaces/macs/0e:1f:2a:3b:4c:5d/vpc-id",
      "network/interfaces/macs/0e:1f:2a:3b:4c:5d/vpc-id",
    ),
  ],
  [
    "a tag in capitals",
    "GET",
    "/latest/meta-data/tags/instance/Name",
    metadata("/latest/meta-data/tags/instance/Name", "tags/instance/Name"),
  ],
  [
    "a query, which is dropped",
    "GET",
    "/latest/meta-data/ami-id?x=1",
    metadata("/latest/meta-data/ami-id", "ami-id"),
  ],
  [
    "a public key",
    "GET",
    "/latest/meta-data/public-keys/0/openssh-key",
    metadata("/latest/meta-data/public-keys/0/openssh-key", "public-keys/0/openssh-key"),
  ],
];

for (const [client, method, target, expected] of accepted)
  t.test(`${client}: ${method} ${target} is ${expected.kind}`, async (t) => {
    t.same(classify(method, target), expected);
  });

const refused: readonly [method: string, target: string, status: number, code: PathCode][] = [
  ["PUT", "/2021-03-23/api/token", 403, "token-version"],
  ["PUT", "/1.0/api/token", 403, "token-version"],
  ["GET", "/latest/api/token", 405, "token-method"],
  ["POST", "/latest/api/token", 405, "token-method"],
  ["POST", "/latest/meta-data/ami-id", 405, "method-not-allowed"],
  ["PUT", "/latest/meta-data/ami-id", 405, "method-not-allowed"],
  ["OPTIONS", "*", 400, "not-origin-form"],
  ["CONNECT", "169.254.169.254:80", 400, "not-origin-form"],
  ["GET", "http://169.254.169.254/latest/meta-data/ami-id", 400, "not-origin-form"],
  ["GET", "", 400, "not-origin-form"],
  ["GET", "/latest/meta-data/placement/../ami-id", 400, "dot-segment"],
  ["GET", "/latest/meta-data/placement/%2e%2e/ami-id", 400, "dot-segment"],
  ["GET", "/latest/./meta-data/", 400, "dot-segment"],
  ["GET", "/latest/meta-data/.../x", 400, "dot-segment"],
  ["GET", "/latest/meta-data%2fami-id", 400, "path-encoding"],
  ["GET", "/latest/meta-data/%2569am", 400, "path-encoding"],
  ["GET", "/latest/meta-data/ami-id%", 400, "path-encoding"],
  ["GET", "/latest/meta-data/ami-id%0", 400, "path-encoding"],
  ["GET", "/latest/meta-data/ami-id%00", 400, "path-encoding"],
  ["GET", "/latest/meta-data/ami-id%0a", 400, "path-encoding"],
  ["GET", "/latest\\meta-data", 400, "path-characters"],
  ["GET", "/latest/meta-data;x/ami-id", 400, "path-characters"],
  ["GET", "/latest/meta-data/ami-id#x", 400, "path-characters"],
  ["GET", "/latest/meta-data/ami-id\n", 400, "path-characters"],
  ["GET", `/latest/meta-data/${"x".repeat(1100)}`, 400, "path-too-long"],
  ["GET", "/Latest/meta-data/ami-id", 404, "unknown-version"],
  ["GET", "/meta-data/ami-id", 404, "unknown-version"],
  ["GET", "/latest/Meta-data/ami-id", 404, "unknown-tree"],
  ["GET", "/latest/api", 404, "unknown-tree"],
  ["GET", "/latest/user-data/x", 404, "unknown-tree"],
  ["GET", "/latest/meta-data/dynamic/instance-identity/pkcs7", 404, "unknown-tree"],
  ["GET", "/latest/meta-data/Ami-id", 404, "letter-case"],
  ["GET", "/latest/meta-data/ami-iD", 404, "letter-case"],
  ["GET", "/latest/meta-data/iam/security-credentials/r/x", 404, "not-under-iam"],
  ["GET", "/latest/meta-data/iam/info/x", 404, "not-under-iam"],
  ["GET", "/latest/meta-data/iam/Security-credentials/", 404, "not-under-iam"],
  ["GET", `/latest/meta-data/iam/security-credentials/${"r".repeat(65)}`, 404, "not-under-iam"],
  ["GET", "/latest/meta-data/IAM/info", 404, "host-credentials"],
  ["GET", "/latest/meta-data/iam-ecs-1/info", 404, "host-credentials"],
  ["GET", "/latest/meta-data/identity-credentials/ec2/info", 404, "host-credentials"],
  ["GET", "/latest/dynamic/some/security-credentials", 404, "host-credentials"],
  ["GET", "/latest/meta-data/+iam/info", 404, "unknown-category"],
  ["GET", "/latest/meta-data/managed-ssh-keys./x", 404, "unknown-category"],
];

for (const [method, target, status, code] of refused)
  t.test(`${method} ${printable(target.slice(0, 80))} is refused with ${status} ${code}`, async (t) => {
    t.match(classify(method, target), { kind: "refused", code, reason: /.+/ });
    t.equal(refusals[code].status, status);
  });

/**
 * How the most lenient service imaginable would read a path: it decodes repeatedly, also overlong UTF-8,
 * folds case and width, takes backslashes for slashes, drops parameters, spaces and control characters, and
 * resolves dots. Independent of classify.
 */
function generous(path: string): string {
  let before: string;
  let at = path;
  do {
    before = at;
    at = at.replace(/^[a-z]+:\/\/[^/]*/i, "").replace(/[?#].*$/s, "");
    at = at.replace(/%u00([0-9a-f]{2})/gi, "%$1");
    at = at.replace(/%c([01])%([89ab])([0-9a-f])/gi, (_, high, low1, low2) =>
      String.fromCharCode(((Number.parseInt(high, 16) & 1) << 6) | (Number.parseInt(low1 + low2, 16) & 0x3f)),
    );
    at = at.replace(/%([0-9a-f]{2})/gi, (_, digits) => String.fromCharCode(Number.parseInt(digits, 16)));
    at = at
      .replaceAll("\\", "/")
      .replace(/;[^/]*/g, "")
      .normalize("NFKC")
      .toLowerCase();
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is dropped
    at = at.replace(/[\x00-\x20\x7f-\xa0+~*]/g, "");
    const kept: string[] = [];
    for (const segment of at
      .split("/")
      .map((segment) => (/^\.+$/.test(segment) ? segment : segment.replace(/\.+$/, "")))) {
      if (/^\.{2,}$/.test(segment)) kept.pop();
      else if (segment !== "." && segment !== "") kept.push(segment);
    }
    at = `/${kept.join("/")}`;
  } while (at !== before);
  return at;
}

const forbidden = [
  /^\/[^/]*\/meta-data\/iam/,
  /credential/,
  /^\/[^/]*\/user-data/,
  // The document itself is allowed: it is not signed. Its signed siblings prove to others that the bearer is
  // the host.
  /^\/[^/]*\/dynamic(?!(\/instance-identity(\/document)?)?$)/,
  /^\/[^/]*\/meta-data\/managed-ssh-keys/,
];

t.test(
  "no odd form of a secret path is forwarded to where a lenient service would find a secret",
  async (t) => {
    const policy = passthroughPolicy(configSchema.parse({}).passthrough);
    let variants = 0;
    let candidates = 0;
    for (const { method, target, mutation } of pathVariants()) {
      variants++;
      const asked = classify(method, target);
      const path = upstreamPath(asked);
      if (path === undefined) continue;
      candidates++;
      if (!/^\/[\w.:+=,@/-]*$/.test(path) || path.includes("//"))
        t.fail(`not canonical: ${path} (${mutation})`);
      if (classify("GET", path).kind !== asked.kind)
        t.fail(`judged differently the second time: ${path} (${mutation})`);
      const meant = generous(path);
      if (/^\/[^/]*\/meta-data\/iam|credential/.test(meant)) t.fail(`${path} may be ${meant} (${mutation})`);
      if (asked.kind !== "metadata" || !policy.permits(asked.category).allowed) continue;
      for (const pattern of forbidden)
        if (pattern.test(meant)) t.fail(`permitted: ${path}, which may be ${meant} (${mutation})`);
    }
    t.ok(variants >= 5000, `${variants} variants`);
    t.ok(candidates > 500, `${candidates} of them are paths that might be forwarded`);
  },
);

t.test("the lenient service of the test above does find secrets at odd paths", async (t) => {
  const hidden = [
    "/latest/meta-data/placement/%252e%252e/iam/info",
    "/latest/meta-data/placement/..;/iam/info",
    "/LATEST\\meta-data\\iam\\info",
    "/latest/meta-data/%c1%a9am/info",
    "http://169.254.169.254/latest/meta-data/iam./info#x",
  ];
  for (const path of hidden)
    await t.test(path, async (t) => t.equal(generous(path), "/latest/meta-data/iam/info"));
});
