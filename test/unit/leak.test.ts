import t from "tap";
import { account, identityProofMarker, leaksHostSecret } from "../support/aws/account.ts";
import { startAws } from "../support/aws/aws.ts";
import { localProxy } from "../support/local-proxy.ts";
import { type PathVariant, pathVariants } from "../support/path-variants.ts";
import { startProxy } from "../support/proxy.ts";
import { ask, type RawAnswer, type Wire, wire } from "../support/raw-http.ts";

/**
 * The whole proxy, as a process of its own, before a metadata service that takes every spelling that some
 * server takes: nothing of the host comes back, whoever asks and however. IMDSv1 is on, which is the weaker
 * setting, and as much as possible is allowed.
 */
const web = { address: "127.0.0.1", name: "web", alias: "web" };
const none = { address: "127.0.0.4", name: "none" };
const role = `arn:aws:iam::${account.id}:role/containers/web`;

const all = [...pathVariants()];
/**
 * A sample, so that the test takes seconds, and other ones than in handler-leak.test.ts. paths.test.ts
 * classifies all of them.
 */
const sample = all.filter((_, nth) => nth % 16 === 9);

const leaks = (text: string) =>
  leaksHostSecret(text) ||
  text.includes(identityProofMarker) ||
  text.includes(account.hostRole) ||
  text.includes(account.hostProfile);

const requestOf = ({ method, target }: PathVariant, token: string | undefined) =>
  `${method} ${target} HTTP/1.1\r\nHost: 169.254.169.254\r\n${token === undefined ? "" : `X-aws-ec2-metadata-token: ${token}\r\n`}\r\n`;

type Heard = (variant: PathVariant, answer: RawAnswer | undefined, rest: string) => void;

/** One after the other on a kept connection, on a new one where the proxy has closed it. */
async function oneByOne(
  open: () => Wire,
  token: string | undefined,
  variants: readonly PathVariant[],
  heard: Heard,
) {
  let one = open();
  for (const variant of variants) {
    if (one.socket.destroyed || one.socket.readableEnded) one = open();
    one.write(requestOf(variant, token));
    let answer = await one.answer(variant.method);
    if (answer === undefined) {
      // The connection had been closed after the answer before: once more on a new one.
      one = open();
      one.write(requestOf(variant, token));
      answer = await one.answer(variant.method);
    }
    heard(variant, answer, "");
    if (answer === undefined || answer.header("connection") === "close") {
      heard(variant, answer, await one.closed());
      one.socket.destroy();
      one = open();
    }
  }
  one.socket.destroy();
}

/** Many in one packet, as a client does that hopes to confuse; what comes back is read to its end. */
async function pipelined(
  open: () => Wire,
  token: string | undefined,
  variants: readonly PathVariant[],
  heard: Heard,
) {
  for (let at = 0; at < variants.length; at += 12) {
    using one = open();
    const batch = variants.slice(at, at + 12);
    one.write(`${batch.map((variant) => requestOf(variant, token)).join("")}GET / HTTP/1.0\r\n\r\n`);
    const rest = await one.closed();
    for (const variant of batch) heard(variant, undefined, rest);
  }
}

t.test(
  `no spelling of ${sample.length} gets anything of the host through the proxy`,
  { timeout: 50_000 },
  async (t) => {
    t.ok(sample.length >= 5_000);
    await using aws = await startAws({ imds: { generous: true, record: 0 } });
    await using proxy = await startProxy(await localProxy(), {
      metadataEndpoint: aws.imds.url,
      sts: { endpoint: aws.sts.url, region: account.region },
      httpTokens: "optional",
      // The access log must not hold what the answers hold.
      verbose: true,
      aliasToARN: { web: role },
      staticContainers: {
        [web.address]: { name: web.name, alias: web.alias },
        [none.address]: { name: none.name },
      },
      dockerHost: "/nonexistent/docker.sock",
      passthrough: {
        allow: ["placement", "tags", "public-keys", "network", "instance-id", "ami-id", "dynamic/fws", "x"],
      },
    });
    const { port } = proxy;
    const tokenOf = async ({ address }: { address: string }) =>
      (
        await ask({ port, from: address }, "PUT", "/latest/api/token", [
          "X-aws-ec2-metadata-token-ttl-seconds: 21600",
        ])
      ).body;
    const [webToken, noneToken] = await Promise.all([tokenOf(web), tokenOf(none)]);
    t.match(webToken, /^AQA/);

    const leaked: string[] = [];
    const statuses = new Map<number, number>();
    const heard: Heard = (variant, answer, rest) => {
      if (answer !== undefined) statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1);
      if (leaks(answer?.text ?? "") || leaks(rest))
        leaked.push(`${variant.method} ${variant.target} (${variant.mutation})`);
    };
    const lanes: Promise<void>[] = [];
    const askers = [
      { ...web, token: webToken, way: oneByOne },
      { ...none, token: noneToken, way: oneByOne },
      { ...web, token: undefined, way: pipelined },
      { ...none, token: undefined, way: pipelined },
    ];
    // Each asker sends all of them, so that each variant comes in four ways.
    for (const { address, token, way } of askers)
      for (let lane = 0; lane < 2; lane++)
        lanes.push(
          way(
            () => wire(port, address),
            token,
            sample.filter((_, nth) => nth % 2 === lane),
            heard,
          ),
        );
    await Promise.all(lanes);

    t.same(leaked, []);
    t.comment(
      `statuses of ${sample.length} variants, twice: ${JSON.stringify(Object.fromEntries(statuses))}`,
    );
    t.notOk(
      [...statuses.keys()].some((status) => status >= 500),
      "none was a failure",
    );
    t.notMatch(proxy.log(), /this is a bug/);
    t.equal(leaksHostSecret(proxy.log()), false, "nor does the log hold a secret of it");
    t.match(proxy.log(), /answered request=/, "though it has each request");
    for (const token of [webToken, noneToken]) t.notOk(proxy.log().includes(token), "nor a session token");

    const own = await ask(
      { port, from: web.address },
      "GET",
      "/latest/meta-data/iam/security-credentials/web",
    );
    t.match(own.body, /"Code" : "Success"/, "and the proxy still serves");
    for (const { secretAccessKey, sessionToken } of aws.secrets())
      for (const secret of [secretAccessKey, sessionToken])
        t.notOk(secret !== "" && proxy.log().includes(secret), "nor credentials");
    t.equal(leaks(own.body), false);
  },
);

t.test(
  "the same spellings do get the host's secrets from the service itself, so the test can fail",
  async (t) => {
    await using aws = await startAws({
      imds: { generous: true, httpTokens: "optional", keepAlive: true, record: 0 },
    });
    const port = Number(new URL(aws.imds.url).port);
    let leaked = 0;
    const some = sample.filter((_, nth) => nth % 10 === 0);
    await oneByOne(
      () => wire(port),
      undefined,
      some,
      (_variant, answer, rest) => {
        if (leaks(answer?.text ?? "") || leaks(rest)) leaked++;
      },
    );
    t.comment(`${leaked} of ${some.length} leak without the proxy`);
    t.ok(leaked > some.length / 20);
  },
);
