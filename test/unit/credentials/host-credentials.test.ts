import t, { type Test } from "tap";
import { HostCredentials } from "../../../src/credentials/host-credentials.ts";
import { MetadataClient } from "../../../src/metadata/client.ts";
import { type Answer, metadataService } from "../metadata/fixture.ts";
import { busyMachineMs, mustBeUnavailable, realCache } from "./fixture.ts";

function hostCredentials(
  t: Test,
  endpoint: string,
  clocks: { readonly now: () => number; readonly wallNow: () => number },
): HostCredentials {
  const metadata = new MetadataClient({ endpoint, now: clocks.now });
  t.teardown(() => metadata.close());
  return new HostCredentials({ metadata, environmentKeys: undefined, timeoutMs: 1_000, ...clocks });
}

/** A service whose keys expire at `expiration`, by its own clock. */
function keysPage(expiration: () => string | undefined, serviceNow: () => number): Answer {
  return (req, res) => {
    res.setHeader("Date", new Date(serviceNow()).toUTCString());
    if (req.url?.endsWith("/security-credentials/")) return res.end("host");
    const keys = { Code: "Success", AccessKeyId: "ASIA", SecretAccessKey: "s", Token: "t" };
    return res.end(JSON.stringify({ ...keys, Expiration: expiration() }));
  };
}

const hour = 3_600_000;
for (const [what, leftMs, expected] of [
  ["two hours left", 2 * hour, 2 * hour],
  ["an expiration in the past", -hour, -hour],
  ["ten years left", 87_600 * hour, 6 * hour],
  ["no expiration", undefined, 6 * hour],
] as const) {
  t.test(`host credentials with ${what} are measured by the service's clock`, async (t) => {
    const serviceNow = () => 1_700_000_000_000;
    const expiration = () =>
      leftMs === undefined ? undefined : new Date(serviceNow() + leftMs).toISOString();
    const { endpoint, requests } = await metadataService(t, { page: keysPage(expiration, serviceNow) });
    let now = 5_000_000;
    const host = hostCredentials(t, endpoint, { now: () => now, wallNow: () => 0 });
    const keys = await host.current();
    t.ok(Math.abs((keys.expiresAt ?? 0) - now - expected) < 2_000);
    const reads = requests.length;
    for (let time = 0; time < 100; time++) {
      now += 100;
      await host.current();
    }
    t.ok(requests.length - reads <= 4, `${requests.length - reads} requests in 10 s`);
    t.equal(/expired \d+ s ago/.test(host.expiryNote(keys)), expected < 0);
  });
}

for (const region of ["eu-west-1.evil.example/", "a b", "", "<html>", "169.254.169.254"]) {
  t.test(
    `a region of ${JSON.stringify(region)} is rejected, so it never becomes part of a host name`,
    async (t) => {
      const { endpoint } = await metadataService(t, { page: (_, res) => res.end(region) });
      const host = hostCredentials(t, endpoint, { now: Date.now, wallNow: Date.now });
      await t.rejects(host.region(), { code: "HostCredentialsUnavailable" });
    },
  );
}

t.test(
  "host credentials that have expired cause no loop, at STS or at IMDS, and the log says so",
  async (t) => {
    const { aws, lines, get } = await realCache(t);
    aws.imds.credentials.rotate(-60_000);
    const until = performance.now() + 6_000;
    await Promise.all(
      ["a", "b", "c", "d"].map(async (role) => {
        while (performance.now() < until) mustBeUnavailable(await get(role));
      }),
    );
    t.ok(aws.sts.counts().total <= 25, `${aws.sts.counts().total} calls in 6 s`);
    t.ok(aws.imds.requests.total <= 12, `${aws.imds.requests.total} requests to IMDS in 6 s`);
    t.match(JSON.stringify(lines), /the host's credentials at .* expired 6\d s ago/);
    aws.imds.credentials.rotate();
    const over = performance.now();
    let answer = await get("a");
    while (answer.kind !== "credentials" && performance.now() - over < busyMachineMs) answer = await get("a");
    t.equal(answer.kind, "credentials", `served after ${Math.round(performance.now() - over)} ms`);
  },
);
