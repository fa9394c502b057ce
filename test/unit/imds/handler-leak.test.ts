import { once } from "node:events";
import { type AddressInfo, connect, type Socket } from "node:net";
import t, { type Test } from "tap";
import { configSchema } from "../../../src/config/schema.ts";
import { staticContainer } from "../../../src/containers/container.ts";
import { Directory } from "../../../src/containers/directory.ts";
import { credentialsAnswer } from "../../../src/credentials/answer.ts";
import { openAdmission } from "../../../src/imds/admission.ts";
import { Callers } from "../../../src/imds/callers.ts";
import { type ImdsDependencies, imdsHandler } from "../../../src/imds/handler.ts";
import { passthroughPolicy } from "../../../src/imds/policy.ts";
import { refusalAnswer } from "../../../src/imds/refusals.ts";
import { imdsServer } from "../../../src/imds/server.ts";
import { sessionTokens } from "../../../src/imds/session-token.ts";
import { Upstream } from "../../../src/imds/upstream.ts";
import { MetadataClient } from "../../../src/metadata/client.ts";
import { rolePolicy } from "../../../src/roles/grant.ts";
import { account, identityProofMarker, leaksHostSecret } from "../../support/aws/account.ts";
import { startImds } from "../../support/aws/imds.ts";
import { type PathVariant, pathVariants } from "../../support/path-variants.ts";

const roleArn = "arn:aws:iam::123456789012:role/containers/web";
/** The proxy in front of a metadata service that accepts every spelling that some server accepts. */
async function proxyFixture(t: Test, passthrough: object) {
  const imds = await startImds({ generous: true, keepAlive: true, record: 0 });
  const config = configSchema.parse({
    aliasToARN: { web: roleArn },
    staticContainers: { "127.0.0.1": { name: "web", alias: "web" } },
    passthrough,
  });
  const tokens = sessionTokens({ key: Buffer.alloc(32, 1), now: Date.now });
  const metadata = new MetadataClient({ endpoint: imds.url, now: Date.now });
  const upstream = new Upstream({
    metadata,
    cacheSeconds: 60,
    requestsPerSecond: 100_000,
    now: Date.now,
  });
  const container = staticContainer("127.0.0.1", { name: "web", alias: "web" });
  const now = Date.now();
  const credentials = credentialsAnswer(
    {
      accessKeyId: "ASIACONTAINER",
      secretAccessKey: "container-secret",
      sessionToken: "container-token",
      expiresAt: now + 3_600_000,
      fetchedAt: now,
      lifetimeMs: 3_600_000,
      accountId: "123456789012",
      assumedRoleArn: "arn:aws:sts::123456789012:assumed-role/web/session",
      assumedRoleId: "AROAWEB:session",
    },
    roleArn,
  );
  const settings = {
    identityProof: "off",
    passthrough: passthroughPolicy(config.passthrough),
    requestsPerSecond: 1_000_000,
  } as const;
  const the: ImdsDependencies = {
    settings: () => settings,
    directory: new Directory({ statics: [container] }),
    listed: Promise.resolve(),
    incomplete: () => undefined,
    access: undefined,
    refresh: async () => undefined,
    provenance: { check: async () => ({ proven: true }) },
    callers: new Callers(rolePolicy(config), undefined),
    credentials: { get: () => credentials },
    tokens,
    upstream,
    locks: undefined,
    granted: () => undefined,
    refused: () => undefined,
    now: Date.now,
  };
  const handle = imdsHandler(the);
  const failures: unknown[] = [];
  const { server, drain } = imdsServer(
    (request, response) => void handle(request, response).catch((error) => failures.push(error)),
    openAdmission(the, {
      containers: { perContainer: 100, total: 1_000 },
      strangers: { total: 10, perAddress: 10 },
      rejections: { total: 10, perShare: 10 },
    }),
    ({ code }) => refusalAnswer(code),
  );
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(async () => {
    await drain(0);
    upstream.close();
    metadata.close();
    await imds.stop();
  });
  const { port } = server.address() as AddressInfo;
  return { imds, port, failures, token: tokens.issue(container.id, 21_600) };
}

/** Sends each variant unchanged, on a new connection whenever the proxy has closed the last one. */
async function askAll(
  port: number,
  token: string,
  variants: readonly PathVariant[],
  heard: (variant: PathVariant, answer: string) => void,
) {
  let socket: Socket | undefined;
  for (const variant of variants) {
    const alive =
      socket !== undefined && !socket.destroyed && socket.writable ? socket : connect(port, "127.0.0.1");
    socket = alive;
    const head = `${variant.method} ${variant.target} HTTP/1.1\r\nHost: 169.254.169.254\r\nX-aws-ec2-metadata-token: ${token}\r\n\r\n`;
    const answer = await exchange(alive, Buffer.from(head, "latin1"), variant.method === "HEAD");
    if (/\r\nConnection: close\r\n/i.test(answer)) alive.destroy();
    heard(variant, answer);
  }
  socket?.destroy();
}

function exchange(socket: Socket, request: Buffer, bodiless: boolean): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    const done = () => {
      socket.removeAllListeners("data").removeAllListeners("close").removeAllListeners("error");
      socket.on("error", () => undefined);
      resolve(text);
    };
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      const end = text.indexOf("\r\n\r\n");
      if (end === -1) return;
      const length = bodiless
        ? 0
        : Number(/\r\ncontent-length: (\d+)/i.exec(text.slice(0, end + 2))?.[1] ?? 0);
      if (text.length >= end + 4 + length) done();
    });
    socket.on("error", () => undefined);
    socket.on("close", done);
    socket.write(request);
  });
}

const all = [...pathVariants()];
/** A sample, so that the test takes seconds; paths.test.ts classifies all of them. */
const step = 16;
const sample = all.filter((_, nth) => nth % step === 0);

t.ok(sample.length >= 5000, `${sample.length} variants`);

const configurations: readonly [string, object, readonly PathVariant[]][] = [
  ["as it is shipped", {}, sample],
  [
    "with as much allowed as an operator can, but secrets",
    { allow: ["placement", "tags", "public-keys", "network", "instance-id", "x", "ami-id", "dynamic/fws"] },
    sample.filter((_, nth) => nth % 4 === 0),
  ],
];

for (const [name, passthrough, variants] of configurations) {
  t.test(`no odd path gets a secret of the host out of a lenient service, ${name}`, async (t) => {
    const { imds, port, token, failures } = await proxyFixture(t, passthrough);
    const statuses = new Map<string, number>();
    const leaks: string[] = [];
    let own = 0;
    const heard = (variant: PathVariant, answer: string) => {
      const status = answer.slice(9, 12);
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      if (answer.includes("container-secret")) own++;
      const leak =
        leaksHostSecret(answer) ||
        answer.includes(identityProofMarker) ||
        answer.includes(account.hostRole) ||
        answer.includes(account.hostProfile);
      if (leak) leaks.push(`${variant.method} ${variant.target} (${variant.mutation})`);
    };
    const lanes = 8;
    await Promise.all(
      Array.from({ length: lanes }, (_, lane) =>
        askAll(
          port,
          token,
          variants.filter((_, nth) => nth % lanes === lane),
          heard,
        ),
      ),
    );
    t.comment(
      `${variants.length} variants, statuses ${JSON.stringify(Object.fromEntries(statuses))}, ${imds.requests.total} reached the service`,
    );
    t.same(leaks, []);
    t.same(failures, []);
    t.equal(
      [...statuses.values()].reduce((sum, count) => sum + count, 0),
      variants.length,
      "each was answered",
    );
    t.notOk(
      [...statuses.keys()].some((status) => status.startsWith("5") || status === ""),
      "none by a failure",
    );
    for (const path of [
      "/latest/meta-data/placement/region",
      "/latest/meta-data/iam/security-credentials/web",
    ])
      await askAll(port, token, [{ method: "GET", target: path, mutation: "" }], (_, answer) => {
        t.match(answer, /^HTTP\/1\.1 200 OK/, path);
        if (answer.includes("container-secret")) own++;
      });
    t.ok(own > 0, "its own credentials are there");
  });
}

t.test("without the proxy, the service does send its secrets for odd paths", async (t) => {
  const imds = await startImds({ generous: true, httpTokens: "optional", keepAlive: true });
  t.teardown(() => imds.stop());
  const port = Number(new URL(imds.url).port);
  let leaked = 0;
  const some = sample.filter((_, nth) => nth % 10 === 0);
  for (const variant of some) {
    const socket = connect(port, "127.0.0.1");
    const head = `${variant.method} ${variant.target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`;
    if (leaksHostSecret(await exchange(socket, Buffer.from(head, "latin1"), false))) leaked++;
    socket.destroy();
  }
  t.ok(leaked > some.length / 20, `${leaked} of ${some.length} would have got a secret without the proxy`);
});
