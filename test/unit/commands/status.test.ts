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
    const asked = status({ json: false, watch: false }, { runtimeDirectory }, () => undefined);
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
      state: "failing",
      message: hostile,
      hint: hostile,
      requests: 1,
      refusals: 1,
      lastRefusal: { code: hostile, reason: hostile, secondsAgo: 3 },
      credentials: {
        state: "valid",
        expiresInSeconds: 10,
        refreshedSecondsAgo: 20,
        lastError: { code: hostile, message: hostile, cause: hostile, secondsAgo: 5 },
      },
    };
    const problem = { part: "sts", message: hostile, hint: hostile };
    const now = {
      healthy: false,
      health: { parts: { sts: "failing" }, problems: [problem], notes: [problem] },
      summary: hostile,
      version: hostile,
      configPath: hostile,
      configProblem: hostile,
      listening: hostile,
      engines: [
        { host: hostile, connected: false, lastError: hostile },
        { host: hostile, connected: true, engine: hostile, containers: 1 },
      ],
      guard: {
        path: hostile,
        connected: true,
        version: hostile,
        host: { firewall: { state: "not-in-force", since: 0, reason: hostile }, lockTrouble: hostile },
      },
      identityProof: hostile,
      credentials: { state: hostile },
      containers: [container, { ...container, role: hostile, state: "waiting" }],
    };
    const runtimeDirectory = await runtimeDirectoryOf(t, now);
    const printed: string[] = [];
    for (const json of [false, true])
      await status({ json, watch: false }, { runtimeDirectory }, (text) => printed.push(text));
    const [text = "", json = ""] = printed;
    t.notMatch(text, unsafe);
    t.equal(text.split("\n").length, 26, "no line but ours");
    t.notMatch(json, unsafe);
    t.same(JSON.parse(json), JSON.parse(JSON.stringify(now)), "programs read the original");
  });
}

t.test("--watch prints again and again, survives a restart of the proxy, and ends when told", async (t) => {
  const runtimeDirectory = mkdtempSync(join(tmpdir(), "status-"));
  t.teardown(() => rmSync(runtimeDirectory, { recursive: true }));
  const path = join(runtimeDirectory, adminSocketName);
  let healthy = true;
  const answer = () => ({
    healthy,
    summary: healthy ? "Serving 1 container" : "Serving 1 container, 1 NOT SERVED",
    health: { parts: { sts: healthy ? "ok" : "failing" }, problems: [], notes: [] },
    engines: [],
    credentials: {},
    containers: [],
  });
  let server = await openAdmin(path, answer);
  const printed: string[] = [];
  let cleared = 0;
  let round = 0;
  const code = await status(
    { json: false, watch: true },
    { runtimeDirectory },
    (text) => printed.push(text),
    {
      clear: () => {
        cleared += 1;
      },
      next: async (ms) => {
        t.equal(ms, 2_000);
        round += 1;
        if (round === 1) await new Promise((resolve) => server.close(resolve));
        if (round === 2) {
          healthy = false;
          server = await openAdmin(path, answer);
        }
        return round < 3;
      },
    },
  );
  server.close();
  t.match(printed, [/^Serving 1 container\n/, /asking the proxy on .*Is it running\?/s, /1 NOT SERVED/]);
  t.equal(cleared, 3);
  t.equal(code, 1, "the exit code is that of the last round");
});

t.test("--watch --json is one line for each round", async (t) => {
  const printed: string[] = [];
  const runtimeDirectory = "/nonexistent";
  await status({ json: true, watch: true }, { runtimeDirectory }, (text) => printed.push(text), {
    clear: () => t.fail("nothing is cleared"),
    next: async () => false,
  });
  t.equal(printed.length, 1);
  t.match(JSON.parse(printed[0] ?? ""), { healthy: false, error: /asking the proxy/ });
});
