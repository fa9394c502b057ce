import t from "tap";
import { account } from "../../support/aws/account.ts";
import { assumeRoleError, mustBeUnavailable, realCache, realSts } from "./fixture.ts";

t.test("two hops: the first role is assumed once, and its keys sign the calls for the others", async (t) => {
  const assumeFirst = `arn:aws:iam::${account.id}:role/hop`;
  const { aws, assume } = await realSts(t, { assumeFirst });
  await Promise.all(["a", "b", "c"].map((role) => assume(role)));
  const roles = aws.sts.calls.list().map((call) => call.roleArn);
  t.equal(roles.filter((role) => role === assumeFirst).length, 1);
  t.equal(roles[0], assumeFirst);
  t.equal(roles.length, 4);
});

t.test("a refused first hop is a temporary failure, not a refusal of the container's role", async (t) => {
  const assumeFirst = `arn:aws:iam::${account.id}:role/hop`;
  const { aws, assume } = await realSts(t, { assumeFirst });
  aws.sts.faults.setFor(assumeFirst, { accessDenied: true });
  t.match(await assumeRoleError(assume("db")), {
    kind: "temporary",
    code: "AssumeFirstRefused",
    message: /sts\.assumeFirst/,
  });
  aws.sts.faults.setFor(assumeFirst, {});
  t.match(await assume("db"), { accountId: account.id });
});

t.test("a first hop whose credentials have expired on arrival is not assumed in a loop", async (t) => {
  const assumeFirst = `arn:aws:iam::${account.id}:role/hop`;
  const { aws, lines, get } = await realCache(t, { assumeFirst });
  aws.sts.faults.setFor(assumeFirst, { expiration: "-60" });
  const until = performance.now() + 5_000;
  await Promise.all(
    ["a", "b", "c", "d"].map(async (role) => {
      while (performance.now() < until) mustBeUnavailable(await get(role));
    }),
  );
  t.ok(aws.sts.counts().total <= 15, `${aws.sts.counts().total} calls in 5 s`);
  t.match(lines[0], { fields: { reason: /expired (59|60) s before/ } });
});
