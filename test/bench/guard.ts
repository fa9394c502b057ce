import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { table } from "../../scripts/demo/table.ts";
import { lockElements, renderLockTable, renderNoLockTable } from "../../src/firewall/lock-table.ts";
import { World } from "../netns/world.ts";
import { EngineStandIn, idOf } from "../support/engine/stand-in.ts";

/**
 * What the guard and its port lock cost: the throughput between two containers with the lock compared with
 * that without it, in alternation, and the memory of both processes by the number of containers. As root.
 */
const rounds = Number(process.env.BENCH_ROUNDS ?? 9);
const seconds = Number(process.env.BENCH_SECONDS ?? 2);
const executable = join(import.meta.dirname, "../../dist/ec2metaproxy");
const bridge = { name: "docker0", container: "receiver", net: 1 } as const;

const receive = `
import socket, sys
server = socket.create_server(("172.30.1.2", 7100))
while True:
    peer, _ = server.accept()
    while peer.recv(1 << 20): pass
`;
const send = `
import socket, time
peer = socket.create_connection(("172.30.1.2", 7100))
block, sent, end = bytes(1 << 16), 0, time.monotonic() + ${seconds}
while time.monotonic() < end: sent += peer.send(block)
print(sent)
`;

/** 250 containers on each of the networks 172.20.0.0/24 and up. */
const addressOf = (n: number) =>
  `172.${20 + Math.floor(n / 62_500)}.${Math.floor(n / 250) % 250}.${(n % 250) + 2}`;
const macOf = (n: number) => `02:42:ac:14:${hex(n >> 8)}:${hex(n & 255)}`;
const hex = (byte: number) => byte.toString(16).padStart(2, "0");

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

const median = (values: readonly number[]) =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

/** With the entries of the two containers and of `others`, whose elements make the sets large. */
async function throughput(world: World, others: number): Promise<void> {
  const nft = world.hostRun((name) => name);
  const write = async (text: string) => {
    const started = performance.now();
    const outcome = await nft("nft", ["-f", "-"], text);
    if (outcome.kind !== "ran" || outcome.exitCode !== 0)
      throw new Error(`nft failed: ${JSON.stringify(outcome)}`);
    return performance.now() - started;
  };
  const entry = (port: number, mac: string, address: string) => ({
    ports: [port],
    isStarting: false,
    macs: [mac],
    addresses: [address],
  });
  const index = (last: number) =>
    Number(/^(\d+):/.exec(world.ip("host", "link", "show", `veth-1-${last}`))?.[1]);
  const elements = lockElements([
    entry(index(2), world.mac("receiver", "eth0"), "172.30.1.2"),
    entry(index(3), world.mac("sender", "eth0"), "172.30.1.3"),
    ...Array.from({ length: others }, (_, n) => entry(100_000 + n, macOf(n), addressOf(n))),
  ]);
  const ratios: number[] = [];
  const writing: number[] = [];
  const run = () => Number(world.exec("sender", "python3", "-c", send));
  for (let round = 0; round < rounds; round += 1) {
    // Without first in one round, with first in the next.
    const order = round % 2 === 0 ? [false, true] : [true, false];
    const sent = new Map<boolean, number>();
    for (const locked of order) {
      const ms = await write(locked ? renderLockTable(elements, round) : renderNoLockTable());
      if (locked) writing.push(ms);
      sent.set(locked, run());
    }
    ratios.push((sent.get(true) ?? 0) / (sent.get(false) ?? Number.NaN));
  }
  await write(renderNoLockTable());
  say(
    `${others + 2} containers locked: ${median(ratios).toFixed(3)} of the throughput without the lock (median of ${rounds} pairs of ${seconds} s, ${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}); to write the whole table takes ${median(writing).toFixed(0)} ms`,
  );
}

/** Proportional set size of a process and its children, in MB. */
async function pssMb(pid: number): Promise<number> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8");
  const sizes = [pid, ...children.split(" ").filter(Boolean).map(Number)].map(async (one) =>
    Number(/^Pss:\s+(\d+) kB$/m.exec(await readFile(`/proc/${one}/smaps_rollup`, "utf8"))?.[1] ?? 0),
  );
  return (await Promise.all(sizes)).reduce((sum, kb) => sum + kb, 0) / 1_024;
}

async function started(
  world: World,
  environment: NodeJS.ProcessEnv,
  ...args: readonly string[]
): Promise<{ readonly pid: number; readonly stop: () => Promise<void> }> {
  const child = world.start("host", environment, executable, ...args);
  const exited = once(child, "exit");
  const log: string[] = [];
  const lines = createInterface({ input: child.stdout });
  const ready = new Promise<void>((resolve, reject) => {
    lines.on("line", (line) => {
      log.push(line);
      if (line.startsWith("ready: ")) resolve();
    });
    child.on("exit", () => reject(new Error(`${args[0]} has ended: ${log.join("\n")}`)));
  });
  await ready;
  const stop = async () => {
    child.kill("SIGTERM");
    await exited;
  };
  return { pid: child.pid ?? 0, stop };
}

async function memory(world: World, containers: number, pid: number): Promise<readonly string[]> {
  await using engine = await EngineStandIn.listen();
  const folder = await mkdtemp(join(tmpdir(), "bench-guard-"));
  const path = (...names: readonly string[]) => join(folder, ...names);
  for (const name of ["guard", "state", "settings", "proxy"]) await mkdir(path(name));
  await writeFile(
    path("config.json"),
    JSON.stringify({
      dockerHost: engine.host,
      listen: "127.0.0.1:18990",
      metadataEndpoint: "http://127.0.0.1:9",
      aliasToARN: { a: "arn:aws:iam::123456789012:role/A" },
    }),
  );
  for (let n = 0; n < containers; n += 1)
    engine.run(
      {
        id: idOf(`container-${n}`),
        name: `project-service-${n}`,
        networks: { project_default: { ipv4: addressOf(n), mac: macOf(n) } },
        labels: {
          "com.docker.compose.project": "project",
          "com.docker.compose.service": `service-${n}`,
          "com.docker.compose.config-hash": "0123456789abcdef".repeat(4),
        },
        pid,
      },
      { quietly: true },
    );
  const environment = { RUNTIME_DIRECTORY: path("guard"), STATE_DIRECTORY: path("state") };
  const files = ["-c", path("config.json")];
  const guard = await started(world, environment, "guard", ...files, "--settings", path("settings"));
  const socket = path("guard", "containers.sock");
  const proxy = await started(
    world,
    { RUNTIME_DIRECTORY: path("proxy") },
    "serve",
    ...files,
    "--guard",
    socket,
  );
  await delay(10_000);
  const [ofGuard, ofProxy] = await Promise.all([pssMb(guard.pid), pssMb(proxy.pid)]);
  await proxy.stop();
  await guard.stop();
  await rm(folder, { recursive: true });
  return [String(containers), ofGuard.toFixed(0), ofProxy.toFixed(0), (ofGuard + ofProxy).toFixed(0)];
}

await using world = await World.make();
world.addBridge(bridge);
world.addContainer(bridge, "sender", 3);
const receiver = world.spawn("receiver", "python3", "-c", receive);
await delay(500);
say("\nThe port lock\n");
for (const others of [0, 998]) await throughput(world, others);
receiver.kill("SIGKILL");
await world.tell("receiver", {
  do: "listen",
  protocol: "tcp",
  address: "::",
  port: 7001,
  banner: "receiver",
});
const rows: (readonly string[])[] = [];
for (const containers of [2, 100, 1_000]) rows.push(await memory(world, containers, world.pid("receiver")));
say("\nMemory in MB (PSS, with nft and ip, 10 s after the start)\n");
say(table(["containers", "guard", "proxy", "both"], rows));
