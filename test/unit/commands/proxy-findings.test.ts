import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { proxyFindings } from "../../../src/commands/proxy-findings.ts";
import { adminSocketName, openAdmin } from "../../../src/observability/admin.ts";
import { version } from "../../../src/version.ts";

const path = "/etc/ec2metaproxy/config.json";
const healthy = { version, healthy: true, summary: "Serving 2 containers, 2 with a role", configPath: path };

/** A short path: that of a Unix socket has at most 107 bytes. */
function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), "admin-"));
  t.teardown(() => rmSync(path, { recursive: true }));
  return path;
}

/** What `check` says about a proxy with this status. */
async function findings(t: Test, status: unknown) {
  const runtimeDirectory = folder(t);
  const admin = await openAdmin(join(runtimeDirectory, adminSocketName), () => status);
  t.teardown(() => admin.close());
  return proxyFindings({ runtimeDirectory }, path);
}

t.test("a healthy proxy is one line with its summary", async (t) => {
  t.match(await findings(t, healthy), [{ ok: true, text: /Serving 2 containers, 2 with a role$/ }]);
});

t.test("what the proxy itself calls unhealthy is a failure", async (t) => {
  const status = { ...healthy, healthy: false, summary: "Serving 2 containers; STS does not answer" };
  t.match(await findings(t, status), [
    { ok: false, text: /STS does not answer/, hint: /ec2metaproxy status/ },
  ]);
});

t.test("another version and another file are warnings", async (t) => {
  t.match(await findings(t, { ...healthy, version: "0.9.0", configPath: "/tmp/other.json" }), [
    { ok: true },
    { ok: undefined, text: /has version 0\.9\.0/, hint: /systemctl restart/ },
    { ok: undefined, text: /uses \/tmp\/other\.json, not/ },
  ]);
});

t.test("that no proxy runs is left to the finding about its unit", async (t) => {
  t.same(await proxyFindings({ runtimeDirectory: folder(t) }, path), []);
});

t.test("an answer that is none of a proxy is a failure", async (t) => {
  t.match(await findings(t, null), [{ ok: false }, { ok: undefined }, { ok: undefined }]);
});
