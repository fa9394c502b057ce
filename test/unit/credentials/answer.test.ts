import t from "tap";
import { AssumeRoleError } from "../../../src/credentials/assume-role.ts";
import { roleRequest, simulatedCache, watch } from "./fixture.ts";

for (const { code, status, shown, saysWhy } of [
  { code: "AccessDenied", status: 403, shown: "AssumeRoleUnauthorizedAccess", saysWhy: false },
  { code: "MalformedPolicyDocument", status: 400, shown: "MalformedPolicyDocument", saysWhy: true },
  { code: "PackedPolicyTooLarge", status: 400, shown: "PackedPolicyTooLarge", saysWhy: true },
  { code: "RegionDisabledException", status: 403, shown: "RegionDisabledException", saysWhy: false },
  { code: "ValidationError", status: 400, shown: "ValidationError", saysWhy: false },
]) {
  t.test(`${code} is answered as ${shown}, ${saysWhy ? "with" : "without"} STS's message`, async (t) => {
    const error = new AssumeRoleError("refused", code, "STS's message about i-0abc", status);
    const { time, get, cache } = simulatedCache({ sts: { fault: () => error } });
    const answer = watch(get("c", roleRequest("db")));
    await time.runFor(60);
    const { value } = answer;
    if (value?.kind !== "refused") throw new Error(`got ${value?.kind}`);
    t.equal(value.code, shown);
    t.equal(value.message.includes("i-0abc"), saysWhy);
    t.match(JSON.parse(String(value.documents.imds)), {
      Code: shown,
      Message: value.message,
      LastUpdated: /Z$/,
    });
    t.match(JSON.parse(String(value.documents.container)), { code: shown, Code: shown, HTTPErrorCode: 403 });
    cache.close();
  });
}

t.test("a failure document has the wall clock's time", async (t) => {
  const { time, get, cache } = simulatedCache({
    sts: { fault: () => new AssumeRoleError("refused", "AccessDenied", "no", 403) },
    wallNow: () => Date.UTC(2026, 0, 2, 3, 4, 5),
  });
  const answer = watch(get("c", roleRequest("db")));
  await time.runFor(100);
  t.match(String(answer.value?.documents.imds), /"LastUpdated" : "2026-01-02T03:04:05Z"/);
  cache.close();
});
