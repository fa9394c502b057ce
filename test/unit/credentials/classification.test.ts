import { once } from "node:events";
import net from "node:net";
import t from "tap";
import { kindOf } from "../../../src/credentials/assume-role.ts";
import { asAssumeRoleError } from "../../../src/credentials/sdk-errors.ts";
import { openSts } from "../../../src/credentials/sts.ts";
import { MetadataClient } from "../../../src/metadata/client.ts";
import { startAws } from "../../support/aws/aws.ts";
import { keptLog, roleRequest } from "./fixture.ts";

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

t.test("what the SDK calls an error without a code is no refusal", async (t) => {
  for (const name of ["Unknown", "UnknownError", "NotFound", "Error", ""]) {
    const error = Object.assign(new Error("words"), {
      name,
      $fault: "client",
      $metadata: { httpStatusCode: 403 },
    });
    t.match(
      asAssumeRoleError(error, false),
      { kind: "temporary", code: "UnusableAnswer", httpStatus: 403 },
      name,
    );
  }
});

/** STS on a TCP port whose connections can be swallowed by something on the way. */
async function givenGateway(t: { teardown(run: () => unknown): void }) {
  const aws = await startAws();
  const target = new URL(aws.sts.url);
  const swallowed = new Set<net.Socket>();
  const open = new Set<net.Socket>();
  const gateway = net.createServer((socket) => {
    open.add(socket);
    const inner = net.connect(Number(target.port), target.hostname);
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
  const { log } = keptLog();
  const metadata = new MetadataClient({ endpoint: aws.imds.url, now: Date.now });
  t.teardown(() => metadata.close());
  const sts = openSts({
    metadata,
    region: undefined,
    endpoint: `http://127.0.0.1:${typeof bound === "object" ? bound?.port : ""}`,
    hostKeys: undefined,
    assumeFirst: undefined,
    useFips: false,
    useDualstack: false,
    proxyEnvironment: {},
    log,
    now: () => performance.now(),
    wallNow: Date.now,
    timeouts: { requestMs: 2_000 },
  });
  t.teardown(async () => {
    sts.close();
    for (const socket of open) socket.destroy();
    gateway.close();
    await aws.stop();
  });
  const assume = () => sts.assumeRole(roleRequest("db"), AbortSignal.timeout(20_000));
  const swallow = () => {
    for (const socket of open) swallowed.add(socket);
    return open.size;
  };
  return { aws, sts, assume, swallow };
}

t.test("a gateway that swallowed all kept connections costs one time-out, not one for each", async (t) => {
  const { assume, swallow } = await givenGateway(t);
  await Promise.all(Array.from({ length: 10 }, assume));
  t.ok(swallow() >= 5, "there are idle connections");
  await t.rejects(assume(), { kind: "temporary", code: "Timeout" });
  t.match(await assume(), { accountId: /^\d{12}$/ });
});

t.test("what is not STS does not set the clock that calls are signed by", async (t) => {
  const { aws, sts, assume } = await givenGateway(t);
  await assume();
  const before = sts.identity().clockOffsetMs;
  aws.sts.faults.set({ foreign: "html-403", clockSkewSeconds: -86_400 });
  await t.rejects(assume(), { kind: "temporary", code: "NotFromSts", httpStatus: 403 });
  t.ok(Math.abs(sts.identity().clockOffsetMs - before) < 2_000);
});
