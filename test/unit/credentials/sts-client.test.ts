import { once } from "node:events";
import http from "node:http";
import net from "node:net";
import t, { type Test } from "tap";
import { hostClocks } from "../../../src/commands/clocks.ts";
import { account } from "../../support/aws/account.ts";
import { assumeRoleError, mustBeUnavailable, realCache, realSts, sleep } from "./fixture.ts";

const day = 24 * 60 * 60_000;

/** An HTTP proxy that refuses everything, and the requests that it got. */
async function refusingProxy(t: Test) {
  const targets: string[] = [];
  const proxy = http.createServer((req, res) => {
    targets.push(`${req.method} ${req.url}`);
    res.writeHead(502).end();
  });
  proxy.on("connect", (req, socket) => {
    targets.push(`CONNECT ${req.url}`);
    socket.end("HTTP/1.1 502 Bad Gateway\r\n\r\n");
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  t.teardown(() => proxy.close());
  const { port } = proxy.address() as net.AddressInfo; // a TCP server's address is never a string
  return { targets, url: `http://127.0.0.1:${port}` };
}

t.test(
  "calls to STS use the proxy of the environment, requests to the metadata service never do",
  async (t) => {
    const { targets, url } = await refusingProxy(t);
    const { aws, assume } = await realSts(t, {
      proxyEnvironment: { HTTPS_PROXY: url, HTTP_PROXY: url },
      endpoint: undefined,
      region: "cn-north-1",
    });
    t.match(await assumeRoleError(assume("db")), { kind: "temporary", httpStatus: 502, message: /502/ });
    t.same(targets, ["CONNECT sts.cn-north-1.amazonaws.com.cn:443"]);
    t.ok(aws.imds.requests.total >= 3);
  },
);

for (const { region, useFips, useDualstack, host } of [
  { region: "eu-west-1", useFips: false, useDualstack: false, host: "sts.eu-west-1.amazonaws.com" },
  { region: "us-east-1", useFips: true, useDualstack: false, host: "sts-fips.us-east-1.amazonaws.com" },
  { region: "eu-west-1", useFips: false, useDualstack: true, host: "sts.eu-west-1.api.aws" },
  { region: "us-gov-west-1", useFips: true, useDualstack: false, host: "sts.us-gov-west-1.amazonaws.com" },
  { region: "us-iso-east-1", useFips: false, useDualstack: false, host: "sts.us-iso-east-1.c2s.ic.gov" },
  { region: "us-isob-east-1", useFips: false, useDualstack: false, host: "sts.us-isob-east-1.sc2s.sgov.gov" },
  { region: "eusc-de-east-1", useFips: false, useDualstack: false, host: "sts.eusc-de-east-1.amazonaws.eu" },
]) {
  t.test(`STS of ${region} (FIPS ${useFips}, dual-stack ${useDualstack}) is ${host}`, async (t) => {
    const { targets, url } = await refusingProxy(t);
    const { assume } = await realSts(t, {
      proxyEnvironment: { HTTPS_PROXY: url },
      endpoint: undefined,
      region,
      useFips,
      useDualstack,
    });
    await assumeRoleError(assume("db"));
    t.same(targets, [`CONNECT ${host}:443`]);
  });
}

t.test(
  "a session that is longer than requested is cut to the requested duration, for the client too",
  async (t) => {
    const { aws, assume } = await realSts(t);
    aws.sts.faults.set({ expiration: "+7200" });
    const { lifetimeMs, expiresAt } = await assume("db", { durationSeconds: 900 });
    t.equal(lifetimeMs, 900_000);
    t.ok(Math.abs(expiresAt - Date.now() - 900_000) < 5_000, `${new Date(expiresAt).toISOString()}`);
  },
);

t.test(
  "a clock that is wrong by more than five minutes is corrected and logged once, and lifetimes stay right",
  async (t) => {
    const { aws, lines, sts, assume } = await realSts(t);
    for (const skew of [900, -7_200]) {
      aws.sts.faults.set({ clockSkewSeconds: skew });
      const credentials = await assume("db");
      t.ok(
        Math.abs(credentials.lifetimeMs - 3_600_000) < 3_000,
        `an hour, though the clock is off by ${skew} s`,
      );
      t.ok(Math.abs(sts.identity().clockOffsetMs - skew * 1000) < 3_000);
    }
    t.equal(lines.length, 1);
    t.match(lines[0], { level: "warn", fields: { stsAheadSeconds: Number } });
    aws.sts.faults.set({});
    await assume("db");
    t.match(lines[1], { level: "info" });
  },
);

/** Makes this process's wall clock settable by `offset`; the end of the test restores it. */
function settableWallClock(t: { teardown(run: () => void): void }) {
  const real = Date.now;
  const wall = { offset: 0, real };
  Date.now = () => real() + wall.offset;
  t.teardown(() => {
    Date.now = real;
  });
  return wall;
}

/** The clocks of `serve`, except that the wall clock follows `settableWallClock`. */
const processClocks = () => ({ ...hostClocks(), wallNow: () => Date.now() });

for (const step of [-day, day]) {
  const what = step < 0 ? "back by a day" : "forward by a day";

  t.test(`a wall clock that is set ${what} changes no lifetime, and costs one repeated call`, async (t) => {
    const wall = settableWallClock(t);
    const { aws, assume } = await realSts(t, processClocks(), { now: wall.real });
    await assume("db");
    wall.offset = step;
    for (const calls of [2, 1]) {
      const before = aws.sts.counts().total;
      const { lifetimeMs } = await assume("db");
      t.ok(Math.abs(lifetimeMs - 3_600_000) < 3_000, `${lifetimeMs} ms`);
      t.equal(aws.sts.counts().total - before, calls);
    }
    const reads = aws.imds.requests.total;
    await assume("db");
    t.equal(aws.imds.requests.total, reads, "the host's own credentials are not read again");
    wall.offset = 0;
    t.ok(Math.abs((await assume("db")).lifetimeMs - 3_600_000) < 3_000, "and back again");
  });
}

t.test(
  "STS's time as learnt from the host's calls also corrects calls with the first hop's keys",
  async (t) => {
    const wall = settableWallClock(t);
    const assumeFirst = `arn:aws:iam::${account.id}:role/hop`;
    const { aws, sts, assume } = await realSts(t, { ...processClocks(), assumeFirst }, { now: wall.real });
    await assume("db");
    wall.offset = -day;
    await sts.callerArn(AbortSignal.timeout(5_000)).catch(() => undefined);
    const before = aws.sts.counts().total;
    await assume("db");
    t.equal(aws.sts.counts().total - before, 1);
  },
);

t.test("a lifetime is counted from the answer's headers, even if its body is slow", async (t) => {
  const { aws, assume } = await realSts(t, processClocks());
  await assume("db");
  aws.sts.faults.set({ bodyDelayMs: 1_500 });
  const { now } = hostClocks();
  const slow = await assume("db");
  t.ok(now() - slow.fetchedAt > 1_000, `${now() - slow.fetchedAt} ms ago`);
});

for (const faults of [{ bodyDelayMs: 30_000 }, { hang: true }]) {
  t.test(`${Object.keys(faults)[0]}: the call times out and is repeated`, async (t) => {
    const { aws, get } = await realCache(t, { timeouts: { requestMs: 500 } });
    aws.sts.faults.set(faults);
    mustBeUnavailable(await get("db"));
    await sleep(1_500);
    t.ok(aws.sts.counts().total >= 2, "it was repeated");
    aws.sts.faults.set({});
    const over = performance.now();
    while ((await get("db")).kind !== "credentials") if (performance.now() - over > 5_000) break;
    t.ok(performance.now() - over < 4_000);
  });
}

/** STS behind a gateway that can stop passing on what comes over its connections. */
async function stsBehindGateway(t: Test) {
  let target: URL | undefined;
  const swallowed = new Set<net.Socket>();
  const open = new Set<net.Socket>();
  const gateway = net.createServer((socket) => {
    open.add(socket);
    const inner = net.connect(Number(target?.port), target?.hostname);
    for (const end of [socket, inner]) end.on("error", () => {});
    socket.on("data", (chunk) => swallowed.has(socket) || inner.write(chunk));
    inner.on("data", (chunk) => swallowed.has(socket) || socket.write(chunk));
    socket.on("close", () => {
      open.delete(socket);
      inner.destroy();
    });
  });
  gateway.listen(0, "127.0.0.1");
  await once(gateway, "listening");
  const bound = gateway.address();
  const { aws, sts, assume } = await realSts(t, {
    endpoint: `http://127.0.0.1:${typeof bound === "object" ? bound?.port : ""}`,
    now: () => performance.now(),
    timeouts: { requestMs: 2_000 },
  });
  target = new URL(aws.sts.url);
  t.teardown(() => {
    for (const socket of open) socket.destroy();
    gateway.close();
  });
  const swallow = () => {
    for (const socket of open) swallowed.add(socket);
    return open.size;
  };
  return { aws, sts, assume: () => assume("db"), swallow };
}

t.test("a gateway that swallowed all idle connections costs one timeout, not one for each", async (t) => {
  const { assume, swallow } = await stsBehindGateway(t);
  await Promise.all(Array.from({ length: 10 }, assume));
  t.ok(swallow() >= 5, "there are idle connections");
  await t.rejects(assume(), { kind: "temporary", code: "Timeout" });
  t.match(await assume(), { accountId: /^\d{12}$/ });
});

t.test("an answer that is not from STS does not set the clock that calls are signed with", async (t) => {
  const { aws, sts, assume } = await stsBehindGateway(t);
  await assume();
  const before = sts.identity().clockOffsetMs;
  aws.sts.faults.set({ foreign: "html-403", clockSkewSeconds: -86_400 });
  await t.rejects(assume(), { kind: "temporary", code: "NotFromSts", httpStatus: 403 });
  t.ok(Math.abs(sts.identity().clockOffsetMs - before) < 2_000);
});
