import t from "tap";
import { containerStatus } from "../../../src/commands/container-status.ts";
import { explainAnswer } from "../../../src/commands/explain-live.ts";
import { explanationText } from "../../../src/commands/explanation-text.ts";
import type { Container } from "../../../src/containers/container.ts";
import { Directory } from "../../../src/containers/directory.ts";
import { Callers } from "../../../src/imds/callers.ts";
import { rolePolicy } from "../../../src/roles/grant.ts";
import { engineContainer } from "../imds/fixture.ts";
import { configWith } from "../roles/cases.ts";

const labels = (alias: string) => ({ labels: { "ec2metaproxy.RoleAlias": alias } });
const app = engineContainer("aa", "172.17.0.2", { name: "app", ...labels("web") });
const sidecar = engineContainer("bb", "", {
  name: "sidecar",
  ...labels("db"),
  attachments: [],
  networkOf: app.id,
});
const silentSidecar = { ...sidecar, labels: {}, id: "c".repeat(64), name: "quiet" };
const valid = {
  state: "valid",
  expiresAt: 1_700_000_000_000,
  remainingMs: 90_000,
  ageMs: 30_400,
  missingMs: 0,
  lastError: undefined,
} as const;

function proxyWith(...containers: readonly Container[]) {
  const directory = new Directory();
  for (const container of containers) directory.upsert("engine", container);
  return {
    directory,
    callers: new Callers(rolePolicy(configWith({ defaultAlias: "web" })), undefined),
    credentialsOf: (id: string) => (id === app.id ? valid : undefined),
    locks: undefined,
    identityProof: "socket" as const,
    now: 1_000_000,
    configPath: "/etc/ec2metaproxy/config.json",
    engines: [{ host: "unix:///a.sock", connected: true, lastError: undefined }],
  };
}

t.test("a served container has its expiry, and counts what it asked", (t) => {
  const sources = proxyWith(app);
  sources.callers.of(app).activity.requests = 7;
  t.match(containerStatus(app, sources), {
    state: "served",
    role: /role\/web$/,
    credentials: { expires: "2023-11-14T22:13:20.000Z", expiresInSeconds: 90, refreshedSecondsAgo: 30 },
    requests: 7,
    refusals: 0,
  });
  t.end();
});

t.test("what was counted survives a change of the container, and ends with it", (t) => {
  const { callers } = proxyWith(app);
  callers.of(app).activity.requests = 7;
  const renamed = { ...app, name: "other" };
  t.equal(callers.of(renamed).activity.requests, 7);
  callers.forget(app.id);
  t.equal(callers.of({ ...app }).activity.requests, 0);
  t.end();
});

t.test("two containers with one address are both not served", (t) => {
  const rival = engineContainer("dd", "172.17.0.2", { name: "rival" });
  const sources = proxyWith(app, rival);
  t.match(containerStatus(app, sources), { state: "failing", message: /same address as rival/ });
  t.match(containerStatus(rival, sources), { state: "failing", message: /same address as app/ });
  t.end();
});

t.test("explain finds a container by address, name, id, and the beginning of an id", (t) => {
  const sources = proxyWith(app, sidecar);
  for (const wanted of ["172.17.0.2", "::ffff:172.17.0.2", "app", app.id, "aa0"])
    t.match(explainAnswer(wanted, sources), {
      matches: [{ name: "app" }],
      incomplete: null,
      explanation: { container: { name: "app" }, live: { state: "served" } },
    });
  t.match(explainAnswer("172.17.0.9", sources), { matches: [], explanation: null });
  const away = [{ host: "unix:///a.sock", connected: false, lastError: "ENOENT" }];
  t.match(explainAnswer("172.17.0.9", { ...sources, engines: away }), {
    incomplete: "unix:///a.sock: not connected: ENOENT",
  });
  t.end();
});

t.test("a container in another's network is explained with what it really gets", (t) => {
  const sources = proxyWith(app, sidecar, silentSidecar);
  const { explanation } = explainAnswer("sidecar", sources);
  if (explanation === null) throw new Error("it is found");
  t.match(explanation, {
    networkOwner: { id: app.id, name: "app", roleArn: /role\/web$/, code: null },
    live: { state: "failing", message: /asks for the role db, but runs in the network of app/ },
  });
  const text = explanationText(explanation, "");
  t.match(text, /^sidecar runs in the network of app, and gets what that gets: arn:.*role\/web\./);
  t.match(text, /network +that of app$/m);
  t.match(text, /change +Give app the label instead/);
  t.match(explainAnswer("quiet", sources).explanation, { live: { state: "shared" } });
  t.match(explainAnswer("quiet", proxyWith(silentSidecar)).explanation, {
    networkOwner: { name: null, roleArn: null },
    live: { state: "shared", message: /not running/ },
  });
  t.end();
});
