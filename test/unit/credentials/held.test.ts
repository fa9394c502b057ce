import t from "tap";
import { AssumeRoleError, keyOf } from "../../../src/credentials/assume-role.ts";
import { simulatedCache } from "./fixture.ts";

const request = {
  roleArn: "arn:aws:iam::123456789012:role/containers/Web",
  sessionName: "web",
  durationSeconds: 3_600,
};
const key = keyOf(request);

t.test("what a container holds: fetched, renewed, expired in an outage, fetched again", async (t) => {
  let fault: "down" | undefined;
  const { time, cache, prefetch } = simulatedCache({ sts: { fault: () => fault } });
  t.equal(cache.held("web", key), undefined);
  prefetch("web", request);
  t.match(cache.held("web", key), {
    state: "missing",
    missingMs: 0,
    expiresAt: undefined,
    lastError: undefined,
  });
  await time.runFor(1_000);
  t.match(cache.held("web", key), { state: "valid", missingMs: 0, lastError: undefined });
  t.ok((cache.held("web", key)?.remainingMs ?? 0) > 3_590_000);
  t.equal(cache.held("web", "another role's key"), undefined);
  fault = "down";
  await time.runFor(3_600_000 + 30_000);
  const lost = cache.held("web", key);
  t.match(lost, { state: "missing", lastError: { kind: "temporary" } });
  t.ok((lost?.missingMs ?? 0) > 0, "since they expired");
  t.ok((lost?.remainingMs ?? 0) < 0);
});

t.test("one role is enough for STS to count as failing, and ends it when it is gone", async (t) => {
  const { time, cache, prefetch } = simulatedCache({ sts: { fault: () => "down" } });
  prefetch("web", request);
  await time.runFor(30_000);
  const { state, failure } = cache.stats();
  t.equal(state, "normal", "for the scheduler it is no outage");
  t.ok((failure?.calls ?? 0) >= 2);
  t.ok((failure?.forMs ?? 0) >= 10_000);
  t.match(failure, { kind: "temporary" });
  cache.release("web");
  t.equal(cache.stats().failure, undefined);
});

t.test("a refusal is an answer, is kept with its cure, and is asked again without a client", async (t) => {
  let allowed = false;
  const { time, sts, cache, prefetch } = simulatedCache({
    sts: {
      fault: () =>
        allowed ? undefined : new AssumeRoleError("refused", "AccessDenied", "not authorized", 403),
    },
  });
  prefetch("web", request);
  await time.runFor(1_000);
  t.match(cache.held("web", key), {
    state: "refused",
    lastError: { code: "AccessDenied", failure: "trust-or-permission", cure: /trust policy/ },
  });
  t.equal(cache.stats().failure, undefined);
  const calls = sts.total;
  allowed = true;
  await time.runFor(60_000);
  t.match(cache.held("web", key), { state: "valid", lastError: undefined });
  t.ok(sts.total > calls);
});
