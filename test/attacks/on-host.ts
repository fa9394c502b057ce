import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { bootFor } from "../support/host/boot.ts";
import { installFirewall, startFirewall } from "../support/host/firewall-host.ts";
import { canBoot } from "../support/host/requirements.ts";
import type { Suite } from "../support/host/root.ts";
import { allLayers, type Column, columns, configPath, layers, setLayers, withoutLock } from "./layers.ts";
import { asLateAddress, type Entry, isOnKept, matrix, onTheWire } from "./matrix.ts";
import { renewKept, setScene } from "./scene.ts";
import { answersServed, attempt, type Trial } from "./trial.ts";

/**
 * ATTACK_SECONDS: how long an attack that should fail goes on; a minute in `make proof`.
 * ATTACK_COLUMNS=all,-host selects columns, ATTACK_ONLY=regex selects attacks by name.
 */
const thorough = process.env.ATTACK_SECONDS !== undefined;
const seconds = Number(process.env.ATTACK_SECONDS ?? 1);
const only = new RegExp(process.env.ATTACK_ONLY ?? "");
/** For scripts/attacks.ts, which writes docs/attacks.md. */
const resultsDirectory = process.env.ATTACK_RESULTS;
/** With a layer missing, a short attack is enough to see which of the others stops it. */
const briefSeconds = Math.min(seconds, 0.5);

/** Docker's own default: moby's oci/caps/defaults.go. CAP_NET_RAW is in it, CAP_NET_ADMIN is not. */
const defaultCapabilities = "00000000a80425fb";

type Options = {
  /** Names of columns. With ATTACK_SECONDS all of them are run. */
  readonly columns: readonly string[];
};

/** The tests of one host: each attack without protection, with all layers, and with each layer missing. */
export async function attackOn(suite: Suite, options: Options): Promise<void> {
  if (!canBoot(t)) return;
  const host = await bootFor(t, { suite, name: `attacks-${suite}` });
  const scene = await setScene(host);
  const results = new Map<Entry, Map<string, boolean>>();
  const chosen = process.env.ATTACK_COLUMNS?.split(",");
  const wanted = chosen ?? (thorough ? columns.map(({ name }) => name) : options.columns);

  for (const attacker of ["neighbour", "straddler", "stranger"])
    await t.test(`the ${attacker} has Docker's default capabilities and no more`, async (t) => {
      const { stdout } = await scene.docker.inside(attacker, ["grep", "CapEff", "/proc/self/status"]);
      t.equal(stdout.trim().split("\t")[1], defaultCapabilities);
    });

  for (const column of columns) {
    if (!wanted.includes(column.name)) continue;
    await t.test(title(column), async (t) => {
      await setLayers(scene, column);
      const leftOut = thorough || chosen !== undefined ? [] : (column.withoutThoseOf ?? []);
      const entries = [
        ...matrix.filter(({ stoppedBy }) => !stoppedBy.some((layer) => leftOut.includes(layer))),
        ...(column.isOnTheWire ? onTheWire : []),
      ];
      for (const entry of entries.filter(({ name }) => only.test(name)))
        await t.test(entry.name, async (t) => {
          const trial = await attempt(scene, entry, column, column.isThorough ? seconds : briefSeconds);
          note(results, column, trial);
          if (trial.reading !== undefined) t.comment(`${entry.name}: ${JSON.stringify(shown(trial))}`);
          if (trial.expected) t.ok(trial.succeeded, "it succeeds", shown(trial));
          else t.same(trial.loot, [], "it gets nothing", shown(trial));
          if (column.on.includes("lock")) victimWasServed(t, trial);
          if (column.on.includes("lock") && isOnKept(entry))
            t.ok(await scene.keptIsOpen(), "the victim still has its connection");
        });
    });
  }

  await t.test("the victim is served after all attacks", async (t) => {
    await setLayers(scene, allLayers);
    await scene.host.exec("ip neigh flush all; ip -6 neigh flush all", { check: false });
    await renewKept(scene.host, scene.docker);
    t.pass("a new connection of the victim gets a token");
  });

  await t.test("an address that the host gets later is protected once the timer has run", async (t) => {
    // Without the guard, which covers it at once.
    await setLayers(scene, withoutLock);
    const network = await scene.docker.call("network", "inspect", "--format={{.Id}}", "shared");
    const add = (address: string) =>
      host.exec(["ip", "addr", "add", `${address}/16`, "dev", `br-${network.slice(0, 12)}`]);
    await add("172.31.0.99");
    const unseen = await attempt(scene, asLateAddress("172.31.0.99", []), withoutLock, briefSeconds);
    t.ok(unseen.succeeded, "without the timer the rules do not cover it", shown(unseen));

    const settings = await host.read(configPath);
    await installFirewall(host);
    await host.write(configPath, settings);
    await startFirewall(host);
    await add("172.31.0.98");
    await host.waitFor(
      async () => (await host.exec("nft list table bridge ec2metaproxy")).stdout.includes("0xac1f0062"),
      { timeoutMs: 20_000, what: "the rules to cover the new address" },
    );
    for (const address of ["172.31.0.99", "172.31.0.98"]) {
      const seen = await attempt(scene, asLateAddress(address, ["host"]), withoutLock, briefSeconds);
      t.same(seen.loot, [], `as ${address} the attack gets nothing`, shown(seen));
    }
  });

  for (const line of table(suite, results)) t.comment(line);
  if (resultsDirectory !== undefined) writeResults(resultsDirectory, suite, results);
}

function title({ name, on, backend }: Column): string {
  if (name === "none") return "without protection each attack succeeds";
  if (backend === "iptables")
    return "with iptables and ebtables only the attacks succeed that ebtables is documented to let through";
  if (name === allLayers.name)
    return `with all layers no attack gets credentials, a token or a role name in ${seconds} s, or reads an answer`;
  const missing = Object.entries(layers).filter(([layer]) => !on.some((one) => one === layer));
  return `the other layers stop their attacks; missing: ${missing.map(([, text]) => text).join("; ")}`;
}

/** The attack lasted for as long as the victim read, and the victim noticed nothing. */
function victimWasServed(t: Test, { reading, findings }: Trial): void {
  if (reading === undefined) return;
  const { tokens, credentials, errors } = reading;
  t.same(errors, [], "the victim was served throughout");
  t.ok(tokens.length + credentials >= answersServed, `and got ${answersServed} answers`);
  t.ok(findings.began <= reading.began && findings.ended >= reading.ended, "the attack went on meanwhile");
}

function note(results: Map<Entry, Map<string, boolean>>, column: Column, trial: Trial): void {
  const row = results.get(trial.entry) ?? new Map<string, boolean>();
  row.set(column.name, trial.loot.length > 0);
  results.set(trial.entry, row);
}

/** Diagnostics for a failed test, without the secrets. */
function shown({ findings, loot, reading }: Trial): Record<string, unknown> {
  const { rounds, opened, answers, notes } = findings;
  const victim = reading && {
    served: reading.tokens.length + reading.credentials,
    read: loot.filter((one) => one === "an answer").length,
    errors: reading.errors,
  };
  return { rounds, opened, answers, notes, loot: [...new Set(loot)], victim };
}

function writeResults(
  directory: string,
  suite: Suite,
  results: ReadonlyMap<Entry, ReadonlyMap<string, boolean>>,
): void {
  const rows = [...results].map(([entry, cells]) => ({
    name: entry.name,
    isOnTheWire: onTheWire.includes(entry),
    cells: Object.fromEntries(cells),
  }));
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, `${suite}.json`), JSON.stringify(rows));
}

function table(suite: string, results: ReadonlyMap<Entry, ReadonlyMap<string, boolean>>): readonly string[] {
  const names = columns.map(({ name }) => name);
  const row = (head: string, cells: readonly string[]) =>
    `table ${head.padEnd(54)}${cells.map((cell) => cell.padEnd(15)).join("")}`.trimEnd();
  const cell = (succeeded: boolean | undefined) =>
    succeeded === undefined ? "" : succeeded ? "SUCCEEDED" : "failed";
  return [
    row(`attacks on ${suite}, by the layers in force`, names),
    ...[...results].map(([{ name }, cells]) =>
      row(
        name,
        names.map((column) => cell(cells.get(column))),
      ),
    ),
  ];
}
