import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { viewGuard } from "../../../src/commands/guard-view.ts";
import { adminSocketName, openAdmin } from "../../../src/observability/admin.ts";
import { container, GivenGuard, locked, owner } from "../guard/fixture.ts";

/** The runtime directory of a running proxy with this status. */
async function running(t: Test, status: unknown): Promise<string> {
  const runtimeDirectory = await mkdtemp(join(tmpdir(), "view-"));
  const server = await openAdmin(join(runtimeDirectory, adminSocketName), () => status);
  t.teardown(async () => {
    server.close();
    await rm(runtimeDirectory, { recursive: true });
  });
  return runtimeDirectory;
}

const noProxy = { runtimeDirectory: "/nonexistent" };

t.test("the guard's containers, engines and locks are read from its socket", async (t) => {
  const [a, b] = [container("a", 2), container("b", 3)];
  await using guard = await GivenGuard.listen(a);
  guard.put(b, { locked: false, reason: "no port" });
  const view = await viewGuard(guard.path, noProxy);
  t.match(view, { path: guard.path, silentBecause: undefined, version: "1.1.0" });
  t.match(view.engines, [{ host: owner, connected: true, containers: 2 }]);
  t.same(view.protectionOf(a.id), locked);
  t.same(view.protectionOf(b.id), { locked: false, reason: "no port" });
  t.match(view.protectionOf("f".repeat(64)), { locked: false, reason: /does not know/ });
  t.same(view.proxy, { kind: "not running" });
});

t.test("the running proxy says which guard it follows", async (t) => {
  await using guard = await GivenGuard.listen();
  const runtimeDirectory = await running(t, { guard: { path: guard.path, connected: true } });
  const view = await viewGuard(undefined, { runtimeDirectory });
  t.match(view, { path: guard.path, silentBecause: undefined, proxy: { kind: "connected" } });
  const other = await viewGuard("/nonexistent/containers.sock", { runtimeDirectory });
  t.match(other, { path: "/nonexistent/containers.sock", silentBecause: "there is no such socket" });
});

for (const { what, status, proxy } of [
  { what: "no guard", status: { engines: [] }, proxy: { kind: "without a guard" } },
  { what: "a form of another version", status: [], proxy: { kind: "without a guard" } },
  {
    what: "a guard that it does not hear",
    status: { guard: { path: "/nonexistent/g.sock", connected: false, lastError: "ENOENT" } },
    proxy: { kind: "not connected", path: "/nonexistent/g.sock", lastError: "ENOENT" },
  },
])
  t.test(`a running proxy with ${what} is understood`, async (t) => {
    const runtimeDirectory = await running(t, status);
    const view = await viewGuard("path" in proxy ? undefined : "/nonexistent/g.sock", { runtimeDirectory });
    t.same(view.proxy, proxy);
    t.equal(view.path, "/nonexistent/g.sock");
  });

t.test("a guard that hangs, or whose socket nobody serves, does not keep an operator waiting", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "view-"));
  t.teardown(() => rm(folder, { recursive: true }));
  const path = join(folder, "g.sock");
  const hanging = createServer((socket) => void socket.on("error", () => undefined).resume());
  await new Promise<void>((resolve) => hanging.listen(path, resolve));
  const began = performance.now();
  t.match(await viewGuard(path, noProxy), { silentBecause: /no greeting|does not answer/ });
  await new Promise((resolve) => hanging.close(resolve));
  await writeFile(path, "");
  await chmod(path, 0o600);
  t.match(await viewGuard(path, noProxy), { silentBecause: /ECONNREFUSED|ENOTSOCK/ });
  t.ok(performance.now() - began < 10_000);
});
