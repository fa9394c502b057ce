import { mkdir, rm, rmdir } from "node:fs/promises";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { followGuard } from "../../../src/commands/follow-guard.ts";
import type { Container } from "../../../src/containers/container.ts";
import { ask, wire } from "../../support/raw-http.ts";
import { GivenGuard, until } from "../guard/fixture.ts";
import { engineContainer, type FixtureOptions, listPath, proxyFixture, tokenPath, web } from "./fixture.ts";

const silent = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};
const notLocked = { locked: false, reason: "no port of a bridge leads into it" };
const asWeb = { "ec2metaproxy.RoleAlias": "web" };
const victim = engineContainer("aa", "127.0.0.21", { labels: asWeb });
const credentials = `${listPath}Web`;

/**
 * The proxy as it runs with --guard. The socket proof refuses, as behind gVisor's or an inner Docker's
 * network.
 */
async function guarded(t: Test, containers: readonly Container[] = [victim], given: FixtureOptions = {}) {
  const guard = await GivenGuard.listen(...containers);
  t.teardown(() => guard[Symbol.asyncDispose]());
  let skewMs = 0;
  const clock = () => Date.now() + skewMs;
  let socketProofs = 0;
  const proxy = await proxyFixture(t, {
    provenance: {
      check: async () => {
        socketProofs += 1;
        return { proven: false, code: "no-such-socket", reason: "for the test" };
      },
    },
    follow: (directory, onChange) =>
      followGuard(guard.path, { directory, onChange, log: silent, now: clock, wallNow: clock }),
    ...given,
    config: { identityProof: "address", httpTokens: "optional", ...given.config },
  });
  await until(() => containers.every(({ id }) => proxy.directory.byId(id).length === 1));
  const get = async (path: string, from = "127.0.0.21") => {
    const began = performance.now();
    const answer = await ask({ port: proxy.port, from }, "GET", path);
    return { ...answer, ms: performance.now() - began, code: proxy.lastRefusal()?.code };
  };
  return {
    guard,
    proxy,
    get,
    socketProofs: () => socketProofs,
    /** Lets time pass for what has been heard of the guard. */
    skip: (ms: number) => {
      skewMs += ms;
    },
  };
}

t.test("with a lock, the address is the proof, on both listeners, and the record says so", async (t) => {
  const { proxy, get, socketProofs } = await guarded(t);
  const token = await proxy.token({ address: "127.0.0.21" });
  t.equal(token.length > 20, true, "a session token");
  const answer = await get(credentials);
  t.match(answer, { status: 200, body: /ASIA/ });
  t.equal((await get(listPath)).body, "Web");
  const ecs = await ask({ port: proxy.ecsPort, from: "127.0.0.21" }, "GET", "/v1/credentials", [
    "Host: 127.0.0.1",
  ]);
  t.equal(ecs.status, 200);
  t.equal(socketProofs(), 0, "no socket table was read");
  t.same(proxy.proofs, [`${victim.name} address`]);
});

for (const path of [listPath, credentials, "/latest/meta-data/iam/info", "/latest/meta-data/iam/"])
  t.test(`without a lock, ${path} is refused with 503 after a bounded wait`, async (t) => {
    const { guard, proxy, get } = await guarded(t);
    guard.publish(victim, notLocked);
    await until(() => proxy.facts().guard?.locks.protectionOf(victim.id).locked === false);
    const answer = await get(path);
    t.match(answer, { status: 503, code: "address-not-locked" });
    t.equal(answer.header("retry-after"), "1");
    t.match(proxy.lastRefusal()?.reason, /not in force for the container: no port of a bridge/);
    t.notMatch(answer.body, /Web|ASIA/);
    t.ok(answer.ms > 1_500 && answer.ms < 5_000, `${Math.round(answer.ms)} ms`);
    t.equal(proxy.aws.sts.counts().total, 0, "STS was not asked");
  });

t.test("neither a token nor the container credentials are given without a lock", async (t) => {
  const { guard, proxy } = await guarded(t);
  const token = await proxy.token({ address: "127.0.0.21" });
  guard.publish(victim, notLocked);
  await until(() => proxy.facts().guard?.locks.protectionOf(victim.id).locked === false);
  const from = "127.0.0.21";
  const answers = await Promise.all([
    ask({ port: proxy.port, from }, "PUT", tokenPath, ["X-aws-ec2-metadata-token-ttl-seconds: 60"]),
    ask({ port: proxy.ecsPort, from }, "GET", "/v1/credentials", ["Host: 127.0.0.1"]),
    ask({ port: proxy.port, from }, "GET", credentials, [`X-aws-ec2-metadata-token: ${token}`]),
  ]);
  t.same(
    answers.map(({ status }) => status),
    [503, 503, 503],
    "not even with the container's own token",
  );
  t.equal(JSON.parse(answers[1].body).code, "address-not-locked");
  const other = await ask({ port: proxy.port, from }, "GET", "/latest/meta-data/instance-id");
  t.equal(other.status, 200, "metadata that is nobody's own needs no proof");
});

t.test("who asks before the lock is in force is served as soon as it is", async (t) => {
  const { pidStartedAt: _, ...announced } = { ...victim, pid: 0 };
  const { guard, get } = await guarded(t, []);
  const asked = get(credentials);
  await sleep(100);
  guard.publish(announced, { locked: false, reason: "it has just appeared" });
  await sleep(100);
  guard.publish(victim, { locked: false, reason: "it has just appeared" });
  await sleep(100);
  guard.publish(victim);
  const answer = await asked;
  t.match(answer, { status: 200, body: /ASIA/ });
  t.ok(answer.ms < 1_500, `${Math.round(answer.ms)} ms`);
});

t.test(
  "a lock that is withdrawn ends what a kept connection may have, and a new one gives it back",
  async (t) => {
    const { guard, proxy } = await guarded(t);
    using kept = wire(proxy.port, "127.0.0.21");
    const text = `GET ${credentials} HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n`;
    for (let round = 0; round < 3; round++) {
      kept.write(text);
      t.equal((await kept.answer())?.status, 200);
    }
    guard.publish(victim, notLocked);
    await until(() => proxy.facts().guard?.locks.protectionOf(victim.id).locked === false);
    kept.write(text);
    t.equal((await kept.answer())?.status, 503);
    t.equal(proxy.lastRefusal()?.code, "address-not-locked");
    guard.publish(victim);
    await until(() => proxy.facts().guard?.locks.protectionOf(victim.id).locked === true);
    kept.write(text);
    t.equal((await kept.answer())?.status, 200);
  },
);

t.test("a lock that is withdrawn while STS is asked keeps the credentials back", async (t) => {
  const { guard, proxy, get } = await guarded(t, [victim], { config: { prefetch: false } });
  proxy.aws.sts.faults.set({ latencyMs: 500 });
  const pending = get(credentials);
  while (proxy.aws.sts.counts().inFlight === 0) await sleep(5);
  guard.publish(victim, notLocked);
  const answer = await pending;
  t.match(answer, { status: 503, code: "address-not-locked" });
  t.notMatch(answer.body, /ASIA/);
  t.same(proxy.proofs, []);
});

t.test("an address whose next owner has no lock yet is served to nobody until it has", async (t) => {
  const next = engineContainer("bb", "127.0.0.21", { labels: { "ec2metaproxy.RoleAlias": "db" } });
  const { guard, proxy, get } = await guarded(t);
  t.equal((await get(credentials)).status, 200);
  guard.end(victim);
  guard.publish(next, { locked: false, reason: "it has just appeared" });
  await until(() => proxy.directory.byId(next.id).length === 1);
  const asked = get(`${listPath}Database`);
  const former = get(credentials);
  await sleep(200);
  t.equal(proxy.proofs.length, 1, "nothing since");
  guard.publish(next);
  t.equal((await asked).status, 200);
  t.equal((await former).status, 404, "the role is the new owner's");
  t.same(proxy.proofs, [`${victim.name} address`, `${next.name} address`]);
});

t.test("an address that moves to another container while its request waits is the other's", async (t) => {
  const next = engineContainer("bb", "127.0.0.21", { labels: { "ec2metaproxy.RoleAlias": "db" } });
  const { guard, proxy, get } = await guarded(t);
  guard.publish(victim, notLocked);
  await until(() => proxy.facts().guard?.locks.protectionOf(victim.id).locked === false);
  const asked = get(listPath);
  await sleep(100);
  guard.end(victim);
  guard.publish(next);
  const answer = await asked;
  t.match(answer, { status: 200, body: "Database" });
});

t.test("a container that gets a second address is locked at it only when the guard says so", async (t) => {
  const both = {
    ...victim,
    attachments: [
      ...victim.attachments,
      { network: "second", ipv4: "127.0.0.31", ipv6: undefined, mac: undefined },
    ],
  };
  const { guard, proxy, get } = await guarded(t);
  guard.publish(both, { locked: false, reason: "the lock of 127.0.0.31 is being made" });
  await until(() => proxy.directory.at("127.0.0.31").kind === "container");
  const asked = Promise.all([get(listPath), get(listPath, "127.0.0.31")]);
  await sleep(200);
  guard.publish(both);
  t.same(
    (await asked).map(({ status }) => status),
    [200, 200],
  );
});

t.test("a guard that is dead keeps its locks for 80 s, and what is known is served", async (t) => {
  const { guard, proxy, get, skip } = await guarded(t);
  await guard.guard.close();
  await until(() => !proxy.facts().guard?.state().connected);
  t.equal((await get(credentials)).status, 200);
  const stranger = await get(listPath, "127.0.0.40");
  t.match(stranger, { status: 503, code: "engine-unavailable" }, "it may be a new container");
  t.match(proxy.lastRefusal()?.reason, /not all are known: guard .* not connected/);
  skip(81_000);
  t.match(await get(credentials), { status: 503, code: "address-not-locked" });
  t.match(proxy.lastRefusal()?.reason, /not been heard/);
  await guard.restart();
  await until(() => proxy.facts().guard?.state().connected === true);
  t.equal((await get(credentials)).status, 200, "recovery is automatic");
});

t.test("a guard that hangs: known containers are served, a new one gets 503 and not 403", async (t) => {
  const { guard, proxy, get } = await guarded(t);
  await guard.guard.close();
  // Accepts connections and says nothing, as a stopped process does.
  const hanging = createServer((socket) => void socket.on("error", () => undefined).resume());
  await rm(guard.path, { force: true });
  await new Promise<void>((resolve) => hanging.listen(guard.path, resolve));
  t.teardown(() => hanging.close());
  const strangers = await Promise.all([get(listPath, "127.0.0.40"), get(listPath, "127.0.0.41")]);
  for (const { status, code } of strangers) t.same([status, code], [503, "engine-unavailable"]);
  t.equal((await get(credentials)).status, 200);
  await until(() => /greeting/.test(proxy.facts().guard?.state().lastError ?? ""));
});

t.test(
  "a removed socket changes nothing while the connection lasts, and one that is made again is found",
  async (t) => {
    const { guard, proxy, get } = await guarded(t);
    await rm(guard.path);
    // Keeps the guard from making it again.
    await mkdir(guard.path);
    t.equal((await get(credentials)).status, 200);
    guard.publish(engineContainer("bb", "127.0.0.22", { labels: asWeb }));
    await until(() => proxy.directory.at("127.0.0.22").kind === "container");
    // A stranger makes it connect again.
    t.match(await get(listPath, "127.0.0.40"), { status: 503, code: "engine-unavailable" });
    t.match(proxy.facts().guard?.state().lastError, /ECONNREFUSED|ENOENT/);
    t.equal((await get(credentials)).status, 200);
    await rmdir(guard.path);
    await until(() => proxy.facts().guard?.state().connected === true);
  },
);

t.test(
  "a restart of the guard under load loses no known container and refuses nobody",
  { timeout: 60_000 },
  async (t) => {
    const many = Array.from({ length: 40 }, (_, nth) =>
      engineContainer(`c${nth.toString(16).padStart(2, "0")}`, `127.0.1.${nth + 1}`, { labels: asWeb }),
    );
    const { guard, proxy } = await guarded(t, many);
    const answers = new Map<string, number>();
    let isOver = false;
    const clients = many.map(async (_, nth) => {
      while (!isOver) {
        const answer = await ask({ port: proxy.port, from: `127.0.1.${nth + 1}` }, "GET", credentials);
        const key = `${answer.status}`;
        answers.set(key, (answers.get(key) ?? 0) + 1);
      }
    });
    for (let round = 0; round < 5; round++) {
      await guard.guard.close();
      await sleep(150);
      await guard.restart();
      await until(() => proxy.facts().guard?.state().connected === true);
      await sleep(50);
    }
    isOver = true;
    await Promise.all(clients);
    t.equal(proxy.directory.containers().filter(({ source }) => source === "engine").length, 40);
    t.same([...answers.keys()], ["200"], `${answers.get("200")} answers`);
  },
);

t.test("a reload changes the proof at the next request, also on a kept connection", async (t) => {
  let isOwn = false;
  const { guard, proxy } = await guarded(t, [victim], {
    config: { identityProof: "socket" },
    provenance: {
      check: async () =>
        isOwn ? { proven: true } : { proven: false, code: "no-such-socket", reason: "for the test" },
    },
  });
  using kept = wire(proxy.port, "127.0.0.21");
  const status = async (path = credentials) => {
    kept.write(`GET ${path} HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n`);
    return (await kept.answer())?.status;
  };
  t.equal(await status(), 403, "with `socket`, the lock alone proves nothing");
  const keys = { httpTokens: "optional" };
  proxy.reload({ ...keys, identityProof: "address" });
  t.equal(await status(), 200);
  proxy.reload({ ...keys, identityProof: "socket" });
  t.equal(await status(), 403, "a proof by address is none by socket");
  isOwn = true;
  t.equal(await status(), 200);
  guard.publish(victim, notLocked);
  await until(() => proxy.facts().guard?.locks.protectionOf(victim.id).locked === false);
  t.equal(await status(), 200, "with `socket`, a container without a lock is served as ever");
  proxy.reload({ ...keys, identityProof: "address" });
  t.equal(await status(), 503, "and a proof by socket is none by address");
  t.equal(await status(listPath), 503);
});

const pending = { locked: false, reason: "the lock is being made", pending: true } as const;
const bySocket: FixtureOptions = {
  provenance: { check: async () => ({ proven: true }) },
  config: { identityProof: "socket" },
};

for (const [what, news] of [
  ["it is in force", undefined],
  ["it cannot be made", notLocked],
] as const)
  t.test(`under "socket", an answer waits for a lock that is being made, until ${what}`, async (t) => {
    const { guard, proxy, get } = await guarded(t, [victim], bySocket);
    guard.publish(victim, pending);
    await until(() => proxy.facts().guard?.locks.protectionOf(victim.id).locked === false);
    let isAnswered = false;
    const asked = get(credentials).finally(() => {
      isAnswered = true;
    });
    await sleep(200);
    t.notOk(isAnswered);
    guard.publish(victim, news);
    const answer = await asked;
    t.match(answer, { status: 200, body: /ASIA/ });
    t.ok(answer.ms < 1_500, `${Math.round(answer.ms)} ms`);
    t.ok((await get(listPath)).ms < 200, "the next one does not wait");
  });

t.test(`under "socket", a lock that does not come is not waited for longer than 2 s`, async (t) => {
  const { guard, proxy, get } = await guarded(t, [victim], bySocket);
  guard.publish(victim, pending);
  await until(() => proxy.facts().guard?.locks.protectionOf(victim.id).locked === false);
  const answer = await get(credentials);
  t.match(answer, { status: 200, body: /ASIA/ });
  t.ok(answer.ms > 1_500 && answer.ms < 5_000, `${Math.round(answer.ms)} ms`);
});

t.test(`under "socket", no answer goes out without the lock because too many wait for it`, async (t) => {
  const { guard, proxy, get } = await guarded(t, [victim], bySocket);
  guard.publish(victim, pending);
  await until(() => proxy.facts().guard?.locks.protectionOf(victim.id).locked === false);
  const early: (readonly [number, string | undefined])[] = [];
  let isMade = false;
  const waits = Array.from({ length: 70 }, async () => {
    const { status, code } = await get(credentials);
    if (!isMade) early.push([status, code]);
    return status;
  });
  await until(() => early.length === 6);
  isMade = true;
  guard.publish(victim);
  t.same(
    early,
    early.map(() => [503, "too-many-waiting"]),
  );
  t.equal((await Promise.all(waits)).filter((status) => status === 200).length, 64);
});

t.test("a static container is served as declared: there is nothing to lock", async (t) => {
  const { proxy } = await guarded(t);
  t.match((await ask({ port: proxy.port, from: web.address }, "GET", credentials)).body, /ASIA/);
  t.same(proxy.proofs, ["web none"]);
});

t.test("without a guard, no address is a proof", async (t) => {
  const proxy = await proxyFixture(t, {
    containers: [victim],
    provenance: { check: async () => ({ proven: true }) },
    config: { identityProof: "address", httpTokens: "optional" },
  });
  const began = performance.now();
  const answer = await ask({ port: proxy.port, from: "127.0.0.21" }, "GET", listPath);
  t.same([answer.status, proxy.lastRefusal()?.code], [503, "address-not-locked"]);
  t.ok(performance.now() - began < 1_500, "nothing is waited for");
});

for (const [identityProof, proof] of [
  ["socket", "socket"],
  ["token", "token"],
  ["off", "none"],
] as const)
  t.test(`the record of a grant under identityProof "${identityProof}" says ${proof}`, async (t) => {
    const proxy = await proxyFixture(t, {
      containers: [victim],
      provenance: { check: async () => ({ proven: true }) },
      config: { identityProof },
    });
    t.equal((await proxy.get({ address: "127.0.0.21" }, credentials)).status, 200);
    t.same(proxy.proofs, [`${victim.name} ${proof}`]);
  });
