import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { type ExplainOptions, explain, explainContainer } from "../../../src/commands/explain.ts";
import type { ExplainAnswer } from "../../../src/commands/explain-live.ts";
import type { Explanation, Live } from "../../../src/commands/explanation.ts";
import { explanationText } from "../../../src/commands/explanation-text.ts";
import { readEnvironment } from "../../../src/config/load.ts";
import type { Config } from "../../../src/config/schema.ts";
import type { Container } from "../../../src/containers/container.ts";
import { OperatorError, report } from "../../../src/errors.ts";
import { adminSocketName, openAdmin } from "../../../src/observability/admin.ts";
import { EngineStandIn, idOf } from "../../support/engine/stand-in.ts";
import { hostileTexts, unsafe } from "../../support/hostile-texts.ts";
import { account, asks, configWith, containerWith, narrow } from "../roles/cases.ts";

const config = configWith({
  aliases: {
    full: {
      roleArn: `${account}/team/full`,
      durationSeconds: 7200,
      externalId: "not-to-be-shown",
      policy: narrow,
      policyArns: ["arn:aws:iam::123456789012:policy/p"],
      tags: { image: "{image}" },
      sourceIdentity: "{name}",
      httpTokens: "optional",
    },
  },
});

async function explained(
  container: Container,
  over: Partial<ExplainOptions> = {},
  identityProof: Config["identityProof"] = "socket",
) {
  const printed: string[] = [];
  const options = { container: "web-1", json: false, configPath: "/etc/ec2metaproxy/config.json", ...over };
  const exitCode = await explainContainer(
    options,
    { ...config, identityProof },
    async () => [container],
    (text) => printed.push(text),
  );
  return { exitCode, text: printed.join("\n") };
}

t.test("a granted container is shown with who it is, what it requests and what it gets", async (t) => {
  const compose = { "com.docker.compose.project": "shop", "com.docker.compose.service": "cart" };
  const container = containerWith({
    labels: { ...asks("full").labels, ...compose },
    env: { IAM_ROLE: "db" },
    user: "1000",
    attachments: [
      { network: "bridge", ipv4: "172.17.0.2", ipv6: "fd00::2", mac: undefined },
      { network: "shop_default", ipv4: "172.18.0.2", ipv6: undefined, mac: undefined },
    ],
    risks: ["net-admin"],
  });
  const { exitCode, text } = await explained(container);
  t.equal(exitCode, 0);
  t.equal(
    text,
    `web-1 may have the role full.
By the configuration only: the running proxy was not asked.

Who it is
  name       web-1
  id         0123456789ab${"c".repeat(52)}
  image      nginx, sha256:${"0".repeat(64)}
  user       1000
  compose    shop / cart
  addresses  172.17.0.2 and fd00::2 on bridge, 172.18.0.2 on shop_default
  risks      net-admin

What it asks for
  label ec2metaproxy.RoleAlias  "full"
  env IAM_ROLE                  "db" (not used)

What it may have
  allowed by       alias "full" (no allow: open to every container)
  role             arn:aws:iam::123456789012:role/team/full
  session name     web-1-0123456789ab
  duration         7200 s
  session policy   ${narrow} (from alias)
  policy ARNs      arn:aws:iam::123456789012:policy/p
  tags             image=nginx
  source identity  web-1
  external id      set
  IMDSv1           allowed
  note             net-admin: it can configure its network (NET_ADMIN)
  note             env IAM_ROLE requests "db"; label ec2metaproxy.RoleAlias takes precedence`,
  );
});

t.test(
  "a refused container is shown with the code, the reason and what to change, and the exit code is 1",
  async (t) => {
    const { exitCode, text } = await explained(containerWith({ ...asks("ops"), attachments: [] }));
    t.equal(exitCode, 1);
    t.match(text, /^web-1 gets no role \(alias-not-allowed\)\.\n/);
    t.match(text, 'allow.images is "registry.example.com/ops/*", the container has "nginx"');
    t.match(text, /change +Widen the `allow` of alias "ops"/);
    t.match(text, "/etc/ec2metaproxy/config.json");
    t.match(text, /addresses +none/);
    t.notMatch(text, "What it may have");
  },
);

t.test("a container on the host's network has a warning that its requests bypass the proxy", async (t) => {
  const { text } = await explained(containerWith({ ...asks("web"), risks: ["host-network"] }));
  t.match(text, /warning +on the host's network its requests go to the real service/);
});

t.test("--json has a stable shape, for a grant and for a refusal", async (t) => {
  const granted = await explained(containerWith(asks("full")), { json: true, instanceId: "i-1" });
  t.equal(granted.exitCode, 0);
  t.same(JSON.parse(granted.text), {
    config: "/etc/ec2metaproxy/config.json",
    container: {
      id: `0123456789ab${"c".repeat(52)}`,
      name: "web-1",
      source: "engine",
      image: "nginx",
      imageId: `sha256:${"0".repeat(64)}`,
      user: "",
      composeProject: null,
      composeService: null,
      networks: [{ network: "bridge", ipv4: "172.18.0.2", ipv6: null }],
      risks: [],
    },
    identity: { proof: "socket", locked: null, reason: null },
    asks: { roles: [{ source: "label ec2metaproxy.RoleAlias", value: "full" }], policies: [] },
    granted: true,
    source: "label ec2metaproxy.RoleAlias",
    grant: {
      alias: "full",
      rule: 'alias "full" (no allow: open to every container)',
      roleName: "full",
      roleArn: "arn:aws:iam::123456789012:role/team/full",
      sessionName: "web-1-0123456789ab",
      durationSeconds: 7200,
      httpTokens: "optional",
      policySource: "alias",
      policy: narrow,
      policyArns: ["arn:aws:iam::123456789012:policy/p"],
      tags: { image: "nginx" },
      sourceIdentity: "web-1",
      externalId: true,
      notes: [],
    },
    refusal: null,
    networkOwner: null,
    live: null,
  });

  const refused = await explained(containerWith({ env: { IAM_POLICY: narrow } }), { json: true });
  t.equal(refused.exitCode, 1);
  t.match(JSON.parse(refused.text), {
    asks: { roles: [], policies: [{ source: "env IAM_POLICY", value: narrow }] },
    granted: false,
    source: null,
    grant: null,
    refusal: { code: "no-role-requested", reason: /requests no role/, hint: /RoleAlias/ },
  });
});

const nasty = "\u001b[2J\u0007\u009b1m\u202e\u2028\r\n";
const nastyContainer = containerWith({
  name: `n${nasty}`,
  image: nasty,
  user: nasty,
  labels: { ...asks(`web${nasty}x`).labels, "com.docker.compose.project": nasty },
  env: { IAM_POLICY: nasty },
  attachments: [{ network: nasty, ipv4: "172.18.0.2", ipv6: undefined, mac: undefined }],
});

for (const json of [false, true]) {
  const form = json ? "--json" : "text";
  t.test(`${form}: what a container wrote cannot move the cursor of the operator's terminal`, async (t) => {
    const { text } = await explained(nastyContainer, { json });
    t.notMatch(text, /[^\n\P{Cc}]|[\p{Cf}\p{Zl}\p{Zp}]/u);
    if (json) t.equal(JSON.parse(text).container.image, nasty, "a program still reads what was written");
  });
}

t.test("no match, or several, is an error that lists what there is", async (t) => {
  const failure = async (found: readonly Container[]) => {
    const options = { container: "we\u001bb", json: false, configPath: "config.json" };
    const error: unknown = await explainContainer(
      options,
      config,
      async () => found,
      () => t.fail("nothing is printed"),
    ).catch((error: unknown) => error);
    if (!(error instanceof OperatorError)) throw error;
    return { exitCode: error.exitCode, text: report(error) };
  };
  const none = await failure([]);
  t.equal(none.exitCode, 69);
  t.match(none.text, 'explaining "we\\u001bb": no running container has this name, id or address');

  const several = await failure([
    containerWith(),
    containerWith({ name: "web-2", id: "static:10.0.3.5", source: "static" }),
  ]);
  t.equal(several.exitCode, 1);
  t.match(
    several.text,
    /2 containers match\nName one of web-1 \(0123456789ab\), web-2 \(static:10\.0\.3\.5\)\./,
  );
});

t.test("an engine that does not answer is the engine's error, not a refusal", async (t) => {
  const down = new OperatorError("listing containers", { exitCode: 69 });
  const options = { container: "web", json: false, configPath: "config.json" };
  await t.rejects(
    explainContainer(
      options,
      config,
      () => Promise.reject(down),
      () => {},
    ),
    down,
  );
});

for (const hostile of hostileTexts) {
  t.test(`explain escapes ${hostile.replace(/[^ -~]/g, "?")}, whoever wrote it`, async (t) => {
    const container = containerWith({
      name: hostile,
      image: hostile,
      imageId: hostile,
      user: hostile,
      labels: {
        "com.docker.compose.project": hostile,
        "com.docker.compose.service": hostile,
        "ec2metaproxy.RoleAlias": hostile,
        "ec2metaproxy.Policy": hostile,
      },
      env: { IAM_ROLE: hostile, IAM_POLICY: hostile },
      attachments: [{ network: hostile, ipv4: "172.17.0.2", ipv6: undefined, mac: undefined }],
    });
    for (const [labels, code] of [
      [container.labels, 1],
      [{ ...container.labels, "ec2metaproxy.RoleAlias": "full", "ec2metaproxy.Policy": "" }, 0],
    ] as const) {
      const one = { ...container, labels, ...(code === 0 && { env: {} }) };
      const { text, exitCode } = await explained(one);
      t.equal(exitCode, code);
      t.notMatch(text, unsafe);
      const own =
        /^(|\S.* (gets no role \([a-z-]+\)|may have the role full)\.|By the configuration only: .*|Who it is|What it asks for|What it may have|Why it is refused| {2}\S.*)$/;
      t.same(
        text.split("\n").filter((line) => !own.test(line)),
        [],
      );
      const { text: json } = await explained(one, { json: true });
      t.notMatch(json, unsafe);
      t.match(JSON.parse(json), { container: { image: hostile } });
    }
    const two = explainContainer(
      { container: hostile, json: false, configPath: hostile },
      config,
      async () => [container, container],
      () => undefined,
    );
    const error: unknown = await two.catch((error: unknown) => error);
    t.notMatch(report(error), unsafe);
    t.equal(report(error).split("\n").length, 2);
  });
}

const noPort = { locked: false, reason: "no port of a bridge leads into it" };

for (const { what, proof, protection, text: expected, warning } of [
  {
    what: "locked",
    proof: "address",
    protection: { locked: true, reason: "" },
    text: /port lock +in force$/m,
    warning: false,
  },
  {
    what: "not locked, and served by its socket",
    proof: "socket",
    protection: noPort,
    text: /port lock +not in force: no port of a bridge leads into it$/m,
    warning: false,
  },
  {
    what: "not locked, and therefore refused",
    proof: "address",
    protection: noPort,
    text: /port lock +not in force: no port/,
    warning: true,
  },
] as const)
  t.test(`a container that is ${what} is explained so`, async (t) => {
    const container = containerWith(asks("web"));
    const protectionOf = (id: string) => (id === container.id ? protection : undefined);
    const { text } = await explained(container, { protectionOf }, proof);
    t.match(text, expected);
    t.equal(/warning +identityProof is "address"/.test(text), warning);
    const { text: json } = await explained(container, { protectionOf, json: true }, proof);
    t.same(JSON.parse(json).identity, {
      proof,
      locked: protection.locked,
      reason: protection.locked ? null : protection.reason,
    });
  });

t.test("a container without an address has nothing to lock", async (t) => {
  const { text } = await explained(containerWith({ ...asks("web"), attachments: [] }), {
    protectionOf: () => noPort,
  });
  t.notMatch(text, "port lock");
});

const live: Live = {
  state: "served",
  message: "",
  hint: "",
  credentials: {
    state: "valid",
    expires: "2026-11-25T15:00:00.000Z",
    expiresInSeconds: 1_800,
    refreshedSecondsAgo: 60,
    lastError: null,
  },
  requests: 3,
  refusals: 1,
  lastRefusal: null,
};

/** A proxy's answer about a container that may have the role web, with what it knows. */
async function explanationWith(
  known: Live | null,
  container = containerWith(asks("web")),
): Promise<Explanation> {
  const { text } = await explained(container, { json: true });
  return { ...JSON.parse(text), live: known };
}

for (const { what, known, says } of [
  { what: "gets it", known: live, says: /^web-1 gets the role web\.\n/ },
  {
    what: "is refused by IAM",
    known: {
      ...live,
      state: "failing",
      message: "has no credentials: AccessDenied",
      hint: "Edit it.",
    } as const,
    says: /^web-1 DOES NOT GET the role web: it has no credentials: AccessDenied\.\n[\s\S]*change +Edit it\./,
  },
  {
    what: "has not asked yet",
    known: {
      ...live,
      state: "waiting",
      message: "its credentials are fetched when it asks",
      credentials: null,
    } as const,
    says: /^web-1 may have the role web: its credentials are fetched when it asks\.\n[\s\S]*not requested from STS yet/,
  },
])
  t.test(`explain says of a container whose proxy knows that it ${what}`, async (t) => {
    const text = explanationText(await explanationWith(known), "");
    t.match(text, says);
    t.match(text, /requests +3, 1 of them refused/);
    t.notMatch(text, "By the configuration only");
  });

for (const hostile of hostileTexts)
  t.test(`explain escapes ${hostile.replace(/[^ -~]/g, "?")} also where the proxy says it`, async (t) => {
    const said = { code: hostile, message: hostile, cause: hostile, cure: hostile };
    const error = { kind: "refused", failure: "unknown", ...said, secondsAgo: 1 } as const;
    const known: Live = {
      ...live,
      state: "failing",
      message: hostile,
      hint: hostile,
      credentials: {
        state: "missing",
        expires: hostile,
        expiresInSeconds: 1,
        refreshedSecondsAgo: 1,
        lastError: error,
      },
      lastRefusal: { code: hostile, reason: hostile, secondsAgo: 1 },
    };
    const explanation = await explanationWith(known);
    const owned = {
      ...explanation,
      networkOwner: { id: hostile, name: hostile, roleArn: hostile, code: null },
    };
    for (const one of [explanation, owned]) t.notMatch(explanationText(one, hostile), unsafe);
  });

const silent = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

t.test("explain asks the proxy; and the engine where that is not running, or has another file", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "explain-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  await using engine = await EngineStandIn.listen();
  const labels = { "ec2metaproxy.RoleAlias": "web" };
  engine.run({ id: idOf("a"), name: "web-1", networks: { bridge: { ipv4: "172.17.0.2" } }, labels });
  const configPath = join(folder, "config.json");
  writeFileSync(
    configPath,
    JSON.stringify({ dockerHost: engine.socketPath, aliasToARN: { web: `${account}/web` } }),
  );
  const environment = { ...readEnvironment({}), runtimeDirectory: folder };
  const run = async (wanted: string) => {
    const printed: string[] = [];
    const options = { configPath, container: wanted, json: false };
    const code = await explain(options, environment, (text) => printed.push(text), silent);
    return { code, text: printed.join("\n") };
  };
  for (const wanted of ["web-1", "172.17.0.2"]) {
    const stopped = await run(wanted);
    t.match(
      stopped.text,
      /^web-1 may have the role web\.\nBy the configuration only: the proxy is not running/,
    );
    t.equal(stopped.code, 0, "-c asks about the file");
  }

  const failing = await explanationWith({ ...live, state: "failing", message: "has none" });
  const answer = (config: string): ExplainAnswer => ({
    matches: [{ id: "a", name: "web-1" }],
    incomplete: null,
    explanation: { ...failing, config },
  });
  const asked: string[] = [];
  let config = configPath;
  const admin = await openAdmin(
    join(folder, adminSocketName),
    () => ({}),
    (wanted) => {
      asked.push(wanted);
      return answer(config);
    },
  );
  t.teardown(() => admin.close());
  const running = await run("we b&1=\u{1f4a3}");
  t.same(asked, ["we b&1=\u{1f4a3}"], "whatever the operator typed");
  t.match(running.text, /^web-1 DOES NOT GET the role web: it has none\./);
  t.equal(running.code, 1);
  config = "/etc/other.json";
  t.match(
    (await run("web-1")).text,
    /By the configuration only: the running proxy has another configuration than/,
  );
});
