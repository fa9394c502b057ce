import { setTimeout as sleep } from "node:timers/promises";
import { account, leaksHostSecret } from "../support/aws/account.ts";
import { ask, wire } from "../support/raw-http.ts";
import { type Experience, requestSteadily } from "./clients.ts";
import { credentialsPath, quiet, startProxyUnderLoad } from "./fixture.ts";
import { requestsFrom } from "./grammar.ts";
import { seeded } from "./random.ts";
import { residentMegabytes } from "./resident-memory.ts";

/** The effect of odd requests on the proxy. */
export type Findings = {
  readonly connections: number;
  /** Number of answers, by status. */
  readonly statuses: ReadonlyMap<string, number>;
  /** What was sent on connections that got neither an answer nor an end within the proxy's time limits. */
  readonly hung: readonly string[];
  readonly leaked: readonly string[];
  /**
   * Resident memory: after warm-up, at most, and after a pause. `before` and `after` follow a garbage
   * collection; `inUse` is the part that JavaScript uses.
   */
  readonly megabytes: {
    readonly before: number;
    readonly most: number;
    readonly after: number;
    readonly inUse: { readonly before: number; readonly after: number };
  };
  /** A well-behaved container at the same time. */
  readonly other: Experience;
  readonly log: string;
  /** Whether it still served at the end. */
  readonly served: boolean;
};

/** Each worker is a container of its own, so that a delay imposed on one does not delay the others. */
const workers = 96;
const workerAddress = (nth: number) => `127.0.1.${nth + 1}`;
/**
 * The proxy gives up a request after 5 s, checked each second. Before that it may stop reading from an
 * address that sent bad requests, for 10 s or twice 10 s.
 */
const endTimeoutMs = 30_000;

export async function fuzz(seed: number, ms: number): Promise<Findings> {
  const containers = Array.from({ length: workers }, (_, nth) => [
    workerAddress(nth),
    { name: `worker-${nth}` },
  ]);
  await using setup = await startProxyUnderLoad({
    staticContainers: { [quiet.address]: { name: quiet.name }, ...Object.fromEntries(containers) },
  });
  const { port } = setup;
  const quietLines = await setup.tokenLines(quiet);
  const statuses = new Map<string, number>();
  const hung: string[] = [];
  const leaked: string[] = [];
  let connections = 0;

  const work = async (nth: number, until: number) => {
    const random = seeded(seed * 1_000 + nth);
    const from = workerAddress(nth);
    const [line = ""] = await setup.tokenLines({ address: from });
    const token = line.split(": ")[1] ?? "";
    while (Date.now() < until) {
      connections += 1;
      using one = wire(port, from);
      await new Promise((resolve) => one.socket.once("connect", resolve).once("close", resolve));
      const sent = requestsFrom(random, token);
      // In pieces, as packets arrive.
      const pieces = random.percent(15) ? 1 + random.below(4) : 1;
      for (let piece = 0; piece < pieces; piece++) {
        one.write(sent.slice((sent.length * piece) / pieces, (sent.length * (piece + 1)) / pieces));
        if (pieces > 1) await sleep(random.below(3));
      }
      if (random.percent(10)) one.socket.resetAndDestroy();
      // Most clients end their side, and the proxy then ends the connection. For a few it has to find out by
      // itself.
      const ended = !one.socket.destroyed && !random.percent(1);
      if (ended) one.socket.end();
      const said = one.socket.destroyed ? "" : await one.closed(endTimeoutMs).catch(() => undefined);
      if (said === undefined) {
        if (ended) hung.push(sent.slice(0, 500));
        continue;
      }
      for (const [, status = ""] of said.matchAll(/HTTP\/1\.1 (\d{3}) /g))
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
      if (leaksHostSecret(said) || said.includes(account.hostRole)) leaked.push(sent.slice(0, 500));
    }
  };
  const run = (forMs: number) =>
    Promise.all(Array.from({ length: workers }, (_, nth) => work(nth, Date.now() + forMs)));

  await run(Math.min(3_000, ms / 4)); // Warm-up: a process that has just started would be no basis for comparison.
  const before = await setup.memoryCollected();
  let most = before.resident;
  const watching = setInterval(async () => {
    most = Math.max(most, await residentMegabytes(setup.proxy.configPath).catch(() => 0));
  }, 500);
  const other = requestSteadily({ port, from: quiet.address }, credentialsPath, quietLines, 5, ms);
  await run(ms);
  clearInterval(watching);
  await sleep(Math.min(5_000, ms / 4));
  const served = await ask({ port, from: quiet.address }, "GET", credentialsPath, quietLines).then(
    ({ status }) => status === 200,
    () => false,
  );
  const after = await setup.memoryCollected();
  return {
    connections,
    statuses,
    hung,
    leaked,
    megabytes: {
      before: before.resident,
      most,
      after: after.resident,
      inUse: { before: before.inUse, after: after.inUse },
    },
    other: await other,
    log: setup.proxy.log(),
    served,
  };
}

if (import.meta.main) {
  const seconds = Number(process.argv[2] ?? 20);
  const seed = Number(process.argv[3] ?? 1);
  const found = await fuzz(seed, seconds * 1_000);
  process.stdout.write(`${reportOf(found, seed, seconds)}\n`);
  for (const text of [...found.hung, ...found.leaked]) process.stdout.write(`${JSON.stringify(text)}\n`);
  if (!found.served || found.hung.length > 0 || found.leaked.length > 0) process.exitCode = 1;
}

export function reportOf(found: Findings, seed: number, seconds: number): string {
  const { before, most, after, inUse } = found.megabytes;
  const statuses = [...found.statuses].sort().map(([status, count]) => `${status}: ${count}`);
  return [
    `seed ${seed}, ${seconds} s: ${found.connections} connections, answers ${statuses.join(", ")}`,
    `${found.hung.length} hung, ${found.leaked.length} leaked, ${found.served ? "still serves" : "DEAD"}`,
    `memory ${before} MB before, ${most} MB at most, ${after} MB after; in use ${inUse.before} and ${inUse.after} MB`,
    `another container: ${found.other.requests} requests, ${found.other.failed.length} failed, p99 ${found.other.p99.toFixed(0)} ms, worst ${found.other.worst.toFixed(0)} ms`,
  ].join("; ");
}
