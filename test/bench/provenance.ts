import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { table } from "../../scripts/demo/table.ts";
import { type Container, staticContainer } from "../../src/containers/container.ts";
import { processStartedAt } from "../../src/containers/proc.ts";
import { type Connection, Provenance } from "../../src/containers/provenance.ts";

/**
 * The cost of the proof of identity. The kernel walks the table of established connections. Its size is that
 * of the machine or, with net.ipv4.tcp_child_ehash_entries (kernel 6.1 and later), of each network namespace.
 * Runs in network namespaces of its own and changes no setting of the machine. Needs root: `node
 * test/bench/provenance.ts`
 */
const smallTable = 4096;
/** Sockets in the container. A loopback connection has two. */
const sizes = [2, 1_000, 20_000];
const containersAtOnce = 50;
const program = import.meta.filename;

type Held = { readonly pid: number; readonly connections: readonly Connection[] };

async function main([role, argument]: readonly string[]): Promise<void> {
  if (role === "hold") await hold(Number(argument));
  else if (role === "connect") await connectMany(Number(argument));
  else if (role === "measure") await measure(Number(argument));
  else {
    for (const entries of [0, smallTable]) {
      const child = inNewNetwork(["measure", String(entries)], "inherit");
      const [code] = await once(child, "exit");
      if (code !== 0) process.exitCode = 1;
    }
  }
}

function inNewNetwork(args: readonly string[], stdout: "inherit" | "pipe"): ChildProcess {
  const script = 'ip link set lo up; ulimit -n "$(ulimit -H -n)"; exec "$@"';
  const command = ["sh", "-c", script, "sh", process.execPath, program, ...args];
  return spawn("unshare", ["--net", ...command], { stdio: ["ignore", stdout, "inherit"] });
}

/**
 * Stands for a container: a process in its own network namespace with many sockets. Above 1,000 a second
 * process opens the other ends, because of the limit on open files.
 */
async function hold(sockets: number): Promise<void> {
  const accepted: Socket[] = [];
  const server = createServer((socket) => accepted.push(socket)).listen(18000, "127.0.0.1");
  await once(server, "listening");
  if (sockets <= 1000) await connectMany(sockets / 2);
  // It ends with this process, which closes its connections.
  else
    spawn(process.execPath, [program, "connect", String(sockets / 2)], {
      stdio: ["ignore", "ignore", "inherit"],
    });
  while (accepted.length < sockets / 2) await new Promise((resolve) => setTimeout(resolve, 5));
  const connections = accepted.map(({ remoteAddress, remotePort, localAddress, localPort }) => ({
    remoteAddress,
    remotePort,
    localAddress,
    localPort,
  }));
  process.stdout.write(`${JSON.stringify({ pid: process.pid, connections })}\n`);
}

async function connectMany(count: number): Promise<void> {
  for (let opened = 0; opened < count; opened += 200) {
    const batch = Array.from({ length: Math.min(200, count - opened) }, () => connect(18000, "127.0.0.1"));
    await Promise.all(batch.map((client) => once(client.resume(), "connect")));
  }
}

async function held(sockets: number): Promise<{ child: ChildProcess; about: Held }> {
  const child = inNewNetwork(["hold", String(sockets)], "pipe");
  if (child.stdout === null) throw new Error("no output to read");
  for await (const line of createInterface(child.stdout)) return { child, about: JSON.parse(line) as Held };
  throw new Error(`creating a namespace with ${sockets} sockets: it ended`);
}

async function containerOf({ pid }: Held): Promise<Container> {
  const base = staticContainer("127.0.0.1", { name: "bench" });
  return { ...base, source: "engine", pid, pidStartedAt: (await processStartedAt("/proc", pid)) ?? 0 };
}

async function measure(entries: number): Promise<void> {
  if (entries > 0 && !(await setTableSize(entries))) {
    process.stdout.write(
      "This kernel has no net.ipv4.tcp_child_ehash_entries: the second table is not measured.\n",
    );
    return;
  }
  const provenance = new Provenance({ metadata: [] });
  const rows: string[][] = [];
  for (const size of sizes) {
    const { child, about } = await held(size);
    const container = await containerOf(about);
    const any = () => about.connections[Math.floor(Math.random() * about.connections.length)];
    const hit = await times(60, async () => {
      const connection = any();
      if (connection !== undefined) expect(await provenance.check(container, connection, "direct"), true);
    });
    const miss = await times(20, async () => {
      const connection = any();
      if (connection !== undefined)
        expect(await provenance.check(container, { ...connection, localPort: 1 }, "direct"), false);
    });
    const some = Array.from({ length: 64 }, any).filter((one) => one !== undefined);
    const together = await times(8, async () => {
      for (const proof of await Promise.all(some.map((one) => provenance.check(container, one, "direct"))))
        expect(proof, true);
    });
    child.kill("SIGKILL");
    rows.push([`${size} sockets`, ...[hit, miss, together].flatMap((one) => [one.p50, one.p99])]);
  }
  const many = await Promise.all(Array.from({ length: containersAtOnce }, () => held(2)));
  const asked = await Promise.all(
    many.map(async ({ about }) => ({ container: await containerOf(about), about })),
  );
  const all = await times(10, async () => {
    const proofs = asked.map(({ container, about }) =>
      about.connections.map((one) => provenance.check(container, one, "direct")),
    );
    for (const proof of await Promise.all(proofs.flat())) expect(proof, true);
  });
  for (const { child } of many) child.kill("SIGKILL");
  const name = entries === 0 ? "the machine's own table" : `tables of ${entries} buckets`;
  const head = [`ms, ${name}`, "one proof p50", "p99", "a refusal p50", "p99", "64 at once p50", "p99"];
  process.stdout.write(`${table(head, rows)}\n`);
  process.stdout.write(
    `${containersAtOnce} containers at once, all proven after ${all.p50} ms (p99 ${all.p99} ms)\n\n`,
  );
}

function expect({ proven }: { proven: boolean }, expected: boolean): void {
  if (proven !== expected)
    throw new Error(`proven: ${proven}, expected ${expected}: the figures would be meaningless`);
}

async function times(rounds: number, work: () => Promise<void>): Promise<{ p50: string; p99: string }> {
  const took: number[] = [];
  for (let round = -3; round < rounds; round += 1) {
    const began = performance.now();
    await work();
    if (round >= 0) took.push(performance.now() - began);
  }
  took.sort((a, b) => a - b);
  const at = (share: number) =>
    (took[Math.min(took.length - 1, Math.floor(took.length * share))] ?? 0).toFixed(2);
  return { p50: at(0.5), p99: at(0.99) };
}

/**
 * Sets it for this network namespace, which belongs to this run. It applies to the namespaces created in it.
 */
async function setTableSize(entries: number): Promise<boolean> {
  const child = spawn("sysctl", ["-qw", `net.ipv4.tcp_child_ehash_entries=${entries}`], { stdio: "ignore" });
  const [code] = await once(child, "exit");
  return code === 0;
}

await main(process.argv.slice(2));
