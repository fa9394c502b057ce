import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { status } from "../../../src/commands/status.ts";
import { adminSocketName, openAdmin } from "../../../src/observability/admin.ts";
import { hostileTexts, unsafe } from "../../support/hostile-texts.ts";

/** The runtime directory of a proxy whose status is `answer`. Its path is short enough for a socket in it. */
async function runtimeDirectoryOf(t: Test, answer: unknown): Promise<string> {
  const runtimeDirectory = mkdtempSync(join(tmpdir(), "status-"));
  t.teardown(() => rmSync(runtimeDirectory, { recursive: true }));
  const server = await openAdmin(join(runtimeDirectory, adminSocketName), () => answer);
  t.teardown(() => server.close());
  return runtimeDirectory;
}

for (const answer of [null, [], {}, { engines: {}, containers: [] }, "status"]) {
  t.test(`the answer ${JSON.stringify(answer)} is a matter of versions, not a bug`, async (t) => {
    const runtimeDirectory = await runtimeDirectoryOf(t, answer);
    const asked = status({ json: false }, { runtimeDirectory }, () => undefined);
    await t.rejects(asked, { name: "OperatorError", message: /form/, exitCode: 69, hint: /restart/ });
  });
}

for (const hostile of hostileTexts) {
  t.test(`status escapes ${hostile.replace(/[^ -~]/g, "?")}, whoever wrote it`, async (t) => {
    const container = {
      id: hostile,
      name: hostile,
      addresses: [hostile],
      role: undefined,
      code: "unknown-alias",
      reason: hostile,
      protection: { locked: false, reason: hostile },
    };
    const now = {
      healthy: false,
      summary: hostile,
      version: hostile,
      configPath: hostile,
      configProblem: hostile,
      listening: hostile,
      engines: [
        { host: hostile, connected: false, lastError: hostile },
        { host: hostile, connected: true, engine: hostile, containers: 1 },
      ],
      guard: { path: hostile, connected: false, lastError: hostile, version: hostile },
      identityProof: hostile,
      credentials: { state: hostile },
      containers: [container, { ...container, role: hostile }],
    };
    const runtimeDirectory = await runtimeDirectoryOf(t, now);
    const printed: string[] = [];
    for (const json of [false, true])
      await status({ json }, { runtimeDirectory }, (text) => printed.push(text));
    const [text = "", json = ""] = printed;
    t.notMatch(text, unsafe);
    t.equal(text.split("\n").length, 13, "no line but ours");
    t.notMatch(json, unsafe);
    t.same(JSON.parse(json), JSON.parse(JSON.stringify(now)), "programs read the original");
  });
}

t.test("each cause that keeps roles from being assumed is a line, with its roles and the cure", async (t) => {
  const problem = {
    ...{
      failure: "trust-or-permission",
      cause: "IAM does not",
      cure: "Change it.",
      reason: "not authorized",
    },
    roleArns: ["arn:a", "arn:b", "arn:c", "arn:d"],
  };
  const credentials = { state: "normal", warm: 1, failing: 0, refused: 4, problems: [problem] };
  const now = { healthy: true, summary: "Serving", engines: [], containers: [], credentials };
  const runtimeDirectory = await runtimeDirectoryOf(t, now);
  let printed = "";
  await status({ json: false }, { runtimeDirectory }, (text) => {
    printed = text;
  });
  t.match(printed, "IAM does not (arn:a, arn:b, arn:c …): not authorized. Change it.");
});
