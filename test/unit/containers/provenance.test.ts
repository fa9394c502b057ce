import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import t from "tap";
import { canonicalAddress } from "../../../src/config/address.ts";
import { type Container, staticContainer } from "../../../src/containers/container.ts";
import { processStartedAt } from "../../../src/containers/proc.ts";
import { type Connection, Provenance } from "../../../src/containers/provenance.ts";

/** This process as if it were a container: its sockets are real, and are in /proc like any other's. */
async function thisProcess(changed: Partial<Container> = {}): Promise<Container> {
  const pidStartedAt = (await processStartedAt("/proc", process.pid)) ?? 0;
  const { staticAlias: _, ...base } = staticContainer("127.0.0.1", { name: "self" });
  return { ...base, id: "ab".repeat(32), source: "engine", pid: process.pid, pidStartedAt, ...changed };
}

type Teardown = { teardown(run: () => void): void };

/** A connection over loopback, as the server sees it. `to` is the address that the client uses. */
async function connected(t: Teardown, listen: string, to: string, options: { halfOpen?: boolean } = {}) {
  const server = createServer({ allowHalfOpen: true });
  server.listen(0, listen);
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const client = connect({ host: to, port, allowHalfOpen: options.halfOpen === true });
  const [accepted] = (await once(server, "connection")) as [Socket];
  t.teardown(() => {
    client.destroy();
    accepted.destroy();
    server.close();
  });
  const { remoteAddress = "", remotePort = 0, localAddress = "", localPort = 0 } = accepted;
  return { client, accepted, server, connection: { remoteAddress, remotePort, localAddress, localPort } };
}

const ways = [
  ["IPv4", "127.0.0.1", "127.0.0.1"],
  ["IPv4 to a dual-stack listener", "::", "127.0.0.1"],
  ["IPv4 from an IPv6 socket of the client", "::", "::ffff:127.0.0.1"],
  ["IPv4 from an IPv6 socket to an IPv4 listener", "127.0.0.1", "::ffff:127.0.0.1"],
  ["IPv6", "::1", "::1"],
] as const;

for (const [what, listen, to] of ways) {
  t.test(`${what}: a process's own connection is proven, another is not`, async (t) => {
    const { connection } = await connected(t, listen, to);
    const provenance = new Provenance({ metadata: [] });
    const container = await thisProcess();
    t.same(await provenance.check(container, connection, "direct"), { proven: true });
    t.same(await provenance.check(container, connection, "direct"), { proven: true }, "and again");
    const otherPort = { ...connection, remotePort: connection.remotePort ^ 1 };
    t.match(await provenance.check(container, otherPort, "direct"), {
      proven: false,
      code: "no-such-socket",
    });
    const otherServer = { ...connection, localPort: connection.localPort ^ 1 };
    t.match(await provenance.check(container, otherServer, "direct"), {
      proven: false,
      code: "no-such-socket",
    });
  });
}

t.test(
  "a redirected connection is proven by the metadata address that its client sees, and by no other",
  async (t) => {
    const { connection } = await connected(t, "127.0.0.1", "127.0.0.1");
    const redirected: Connection = { ...connection, localAddress: "172.17.0.1", localPort: 18000 };
    const metadata = [
      { address: canonicalAddress(connection.localAddress) ?? "", port: connection.localPort },
    ];
    const container = await thisProcess();
    t.same(await new Provenance({ metadata }).check(container, redirected, "redirect"), { proven: true });
    t.match(await new Provenance().check(container, redirected, "redirect"), {
      code: "no-such-socket",
      reason: /from 127\.0\.0\.1 port \d+ to 169\.254\.169\.254 port 80 or fd00:ec2::254 port 80 in/,
    });
    t.match(
      await new Provenance().check(container, connection, "redirect"),
      { code: "no-such-socket" },
      "a direct connection does not prove a redirected one",
    );
    t.match(
      await new Provenance({ metadata }).check(container, redirected, "direct"),
      { code: "no-such-socket", reason: /to 172\.17\.0\.1 port 18000 in/ },
      "and the other way round",
    );
  },
);

for (const [what, listen, to] of ways) {
  t.test(`${what}: a connection that a listening socket accepted is not proven`, async (t) => {
    // An attacker's way: connecting *to* the container puts the same 4-tuple into its table.
    const { client, connection, server } = await connected(t, listen, to);
    const forged = {
      remoteAddress: connection.localAddress,
      remotePort: connection.localPort,
      localAddress: client.localAddress ?? "",
      localPort: client.localPort ?? 0,
    };
    const provenance = new Provenance({ metadata: [] });
    const container = await thisProcess();
    t.match(await provenance.check(container, forged, "direct"), {
      proven: false,
      code: "port-listening",
      reason: new RegExp(`listening socket on port ${connection.localPort},`),
    });
    const metadata = [{ address: canonicalAddress(forged.localAddress) ?? "", port: forged.localPort }];
    t.match(
      await new Provenance({ metadata }).check(container, forged, "redirect"),
      { code: "port-listening" },
      "nor through the redirect",
    );
    server.close();
    // Layer b of the firewall is for this: without the listening socket it looks like a client's.
    t.same(await provenance.check(container, forged, "direct"), { proven: true });
  });
}

t.test("a client that has closed its side is not proven, and is no intruder", async (t) => {
  const { client, accepted, connection } = await connected(t, "127.0.0.1", "127.0.0.1", { halfOpen: true });
  accepted.resume();
  client.end();
  await once(accepted, "end");
  t.match(await new Provenance().check(await thisProcess(), connection, "direct"), {
    code: "client-closed",
  });
});

t.test("a reused pid is not the container's", async (t) => {
  const { connection } = await connected(t, "127.0.0.1", "127.0.0.1");
  const container = await thisProcess({ pidStartedAt: 1 });
  t.match(await new Provenance().check(container, connection, "direct"), {
    code: "container-gone",
    reason: /has ended/,
  });
});

t.test("a process that has ended proves nothing", async (t) => {
  const { connection } = await connected(t, "127.0.0.1", "127.0.0.1");
  const child = spawn("sleep", ["60"]);
  const pid = child.pid ?? 0;
  const pidStartedAt = (await processStartedAt("/proc", pid)) ?? 0;
  const container = await thisProcess({ pid, pidStartedAt });
  const provenance = new Provenance();
  // It shares our network namespace, so the kernel lists our sockets for it too.
  t.same(await provenance.check(container, connection, "direct"), { proven: true });
  child.kill("SIGKILL");
  await once(child, "exit");
  t.match(await provenance.check(container, connection, "direct"), { code: "container-gone" });
});

t.test("without a pid or its start time nothing is proven; a static container needs no proof", async (t) => {
  const { connection } = await connected(t, "127.0.0.1", "127.0.0.1");
  const provenance = new Provenance();
  t.match(await provenance.check(await thisProcess({ pid: 0 }), connection, "direct"), { code: "no-pid" });
  const { pidStartedAt: _, ...without } = await thisProcess();
  t.match(await provenance.check(without, connection, "direct"), { code: "unreadable" });
  t.same(await provenance.check(staticContainer("127.0.0.1", { name: "vm" }), connection, "direct"), {
    proven: true,
  });
  t.match(await provenance.check(await thisProcess(), { ...connection, remoteAddress: "" }, "direct"), {
    code: "no-such-socket",
  });
});

t.test("a /proc that cannot be read proves nothing", async (t) => {
  const { connection } = await connected(t, "127.0.0.1", "127.0.0.1");
  const procRoot = t.testdir();
  const fields = `5 (a) b) S ${"0 ".repeat(18)}777 0`;
  await mkdir(`${procRoot}/5/net/tcp`, { recursive: true });
  await writeFile(`${procRoot}/5/stat`, fields);
  const container = await thisProcess({ pid: 5, pidStartedAt: 777 });
  t.equal(await processStartedAt(procRoot, 5), 777);
  t.match(await new Provenance({ procRoot }).check(container, connection, "direct"), {
    code: "unreadable",
    reason: /EISDIR/,
  });
  t.match(await new Provenance({ procRoot: `${procRoot}/none` }).check(container, connection, "direct"), {
    code: "container-gone",
  });
});

t.test(
  "concurrent checks of one container share the passes, each gets its own answer, and every file is closed",
  async (t) => {
    const several = await Promise.all(
      Array.from({ length: 40 }, () => connected(t, "127.0.0.1", "127.0.0.1")),
    );
    const provenance = new Provenance({ maxConcurrentReads: 1 });
    const container = await thisProcess();
    const open = async () => (await readdir("/proc/self/fd")).length;
    const before = await open();
    const questions = several.flatMap(({ connection }) => [
      provenance.check(container, connection, "direct"),
      provenance.check(container, { ...connection, localPort: 1 }, "direct"),
    ]);
    const proofs = await Promise.all(questions);
    t.equal(proofs.filter(({ proven }) => proven).length, 40);
    for (const [index, { proven }] of proofs.entries()) t.equal(proven, index % 2 === 0, `question ${index}`);
    t.equal(await open(), before);
  },
);

/** Runs in a network namespace of its own: a connection over loopback with fixed ports. */
const holder = `
  const net = require("node:net");
  const server = net.createServer().listen(18000, "127.0.0.1", () => {
    const client = net.connect({ port: 18000, host: "127.0.0.1", localPort: 45678 }, () => console.log("ready"));
  });
`;

t.test("the container's network namespace counts, not the addresses", async (t) => {
  const unshare = [
    "--map-root-user",
    "--user",
    "--net",
    "sh",
    "-c",
    'ip link set lo up && exec "$0" -e "$1"',
  ];
  const child = spawn("unshare", [...unshare, process.execPath, holder], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.teardown(() => child.kill("SIGKILL"));
  const [started] = await Promise.race([once(child.stdout, "data"), once(child, "exit").then(() => ["no"])]);
  if (!String(started).includes("ready")) {
    if (process.env.CI === "true") t.fail("network namespaces cannot be made here");
    else t.comment("network namespaces cannot be made here: not run");
    return;
  }
  const pid = child.pid ?? 0;
  const inside = await thisProcess({ pid, pidStartedAt: (await processStartedAt("/proc", pid)) ?? 0 });
  const connection = {
    remoteAddress: "::ffff:127.0.0.1",
    remotePort: 45678,
    localAddress: "::ffff:127.0.0.1",
    localPort: 18000,
  };
  const provenance = new Provenance();
  t.same(await provenance.check(inside, connection, "direct"), { proven: true });
  t.match(await provenance.check(await thisProcess(), connection, "direct"), { code: "no-such-socket" });
  const ours = await connected(t, "127.0.0.1", "127.0.0.1");
  t.match(await provenance.check(inside, ours.connection, "direct"), { code: "no-such-socket" });
  t.same(await provenance.check(await thisProcess(), ours.connection, "direct"), { proven: true });
});
